"""Copies what the guardian needs at run time, and nothing else, out of a Debian with Python into a directory.

Used while the image is built: `rootfs.py DIRECTORY`. The interpreter, its library, the shared objects that
these and the packages in /opt/guardian load, and certificates: no shell, no package manager. The Debian
packages that the files came from are listed in var/lib/dpkg/status.d, where scanners look for them.
"""

import compileall
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

VENV = Path("/opt/guardian")
NOT_NEEDED = shutil.ignore_patterns(
    "__pycache__",
    *("site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py"),
    *(
        "ensurepip",
        "lib2to3",
        "pydoc_data",
        "config-3*",
        "*.a",
        "_test*.so",
        "_ctypes_test*.so",
        "_tkinter*.so",
    ),
)
FILES = {
    "etc/passwd": "root:x:0:0::/:/nonexistent\nguardian:x:10402:10402::/var/lib/guardian:/nonexistent\n",
    "etc/group": "root:x:0:\nguardian:x:10402:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def main(root: Path) -> None:
    """Fill `root`, an empty or missing directory."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("lib", "lib64"):  # /usr is merged: both lead there
        if Path("/", name).is_symlink():
            (root / name).symlink_to(Path("/", name).readlink())
    stdlib = Path(sysconfig.get_path("stdlib"))
    interpreter = Path(sys.executable).resolve()
    copied = [copy(interpreter, root)]
    shutil.copytree(stdlib, place(root, stdlib), ignore=NOT_NEEDED, ignore_dangling_symlinks=True)
    alias = place(root, interpreter).with_name("python3")
    if not alias.exists():
        alias.symlink_to(interpreter.name)
    objects = [interpreter, *stdlib.rglob("*.so"), *VENV.rglob("*.so"), *VENV.rglob("*.so.[0-9]*")]
    copied += [copy(library, root) for library in sorted(libraries(objects))]
    shutil.copytree("/etc/ssl", root / "etc/ssl", ignore=shutil.ignore_patterns("private"))
    if Path("/usr/lib/ssl").is_dir():
        shutil.copytree("/usr/lib/ssl", root / "usr/lib/ssl", symlinks=True)
    for name, text in FILES.items():
        (root / name).write_text(text)
    list_packages([*copied, interpreter, stdlib / "os.py", Path("/etc/ssl/openssl.cnf")], root)
    subprocess.run(["/sbin/ldconfig", "-r", str(root)], check=True)
    hashed = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(
        root / stdlib.relative_to("/"), quiet=1, invalidation_mode=hashed, stripdir=str(root)
    )


def place(root: Path, file: Path) -> Path:
    """Where a file of this system goes."""
    return root / file.relative_to("/")


def copy(file: Path, root: Path) -> Path:
    """The file under the name it is asked for; the directories are resolved, since /lib is a link."""
    name = file.parent.resolve() / file.name
    target = place(root, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, target)
    return name


def libraries(objects: list[Path]) -> Iterator[Path]:
    """Shared objects of the system that these load."""
    found: set[Path] = set()
    for start in range(0, len(objects), 100):
        listed = subprocess.run(["ldd", *objects[start : start + 100]], capture_output=True, text=True)
        found |= {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.MULTILINE)}
    yield from (path for path in found if not path.is_relative_to(VENV))


def list_packages(files: list[Path], root: Path) -> None:
    """One paragraph per Debian package, as dpkg has it."""
    names = [str(file.resolve()) for file in files]
    owned = subprocess.run(["dpkg-query", "--search", *names], capture_output=True, text=True).stdout
    packages = {line.partition(": ")[0] for line in owned.splitlines() if not line.startswith("diversion")}
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for package in sorted(packages):
        said = subprocess.run(["dpkg-query", "--status", package], capture_output=True, text=True, check=True)
        (status / package.partition(":")[0]).write_text(said.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
