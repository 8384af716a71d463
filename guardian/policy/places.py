"""Where in its file a value of a policy stands: a path by id, to the line that a person wrote. No I/O."""

from guardian.policy.tree import Path, Tree
from guardian.wire.networks import network_of


class Places:
    """The lines of one policy file.

    The model knows networks by CAIP-2 id and EVM tokens in lower case; the file may write them otherwise.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        networks = tree.data.get("networks") if isinstance(tree.data, dict) else None
        self._networks = {str(network_of(str(key))): str(key) for key in networks or ()}

    def line(self, path: Path) -> int:
        """The line of a value; 0 where it is not written."""
        place = self._tree.values.get(self.written(path))
        return place[0] if place else 0

    def origin(self, path: Path) -> str:
        """`file:line` of a value; empty where it is not written."""
        line = self.line(path)
        return f"{self._tree.file}:{line}" if line else ""

    def written(self, path: Path) -> Path:
        """A path in the words of the file."""
        if path[:1] != ("networks",) or len(path) == 1:
            return path
        path = ("networks", self._networks.get(str(path[1]), str(path[1])), *path[2:])
        if len(path) < 4 or path[2] != "tokens" or path in self._tree.values:
            return path
        lowered = (*path[:3], str(path[3]).lower())
        near = (
            one for one in self._tree.values if len(one) == 4 and (*one[:3], str(one[3]).lower()) == lowered
        )
        return (*next(near, path[:4]), *path[4:])
