"""What a person says of an orphan, an approval or the switch: on one line, and no longer than is shown."""

from guardian.errors import CannotClose, CannotDecide

LONGEST_NAME = 100
LONGEST_TEXT = 500


def said_by(who: str, fault: type[CannotClose | CannotDecide]) -> str:
    """The person's name; raises the fault where there is none."""
    return _said("by", who, LONGEST_NAME, 1, fault)


def said(name: str, text: str, fault: type[CannotClose | CannotDecide], *, least: int = 0) -> str:
    """What was said under a name, at least so many characters of it; raises the fault."""
    return _said(name, text, LONGEST_TEXT, least, fault)


def _said(name: str, text: str, longest: int, least: int, fault: type[CannotClose | CannotDecide]) -> str:
    text = " ".join(text.split())
    if not least <= len(text) <= longest or not text.isprintable():
        raise fault(f"{name}: give 1 to {longest} characters that can be printed")
    return text
