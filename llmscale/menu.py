"""Menus: a folder in which each file is one choice. `--law power-floor` is laws/power_floor.py.

`--law ./mine.py:MyLaw` is a choice of the user's own: MyLaw in that file. Results name it with the
beginning of the SHA-256 of the file, as `mine.py:MyLaw@9f86d081884c7d65`, so that a changed file is
another choice; and its text travels under that name to where runs are trained.

Code is run only from a file that the user named, or of a text that `receive` was given; never
because a name with a digest stands in a results folder."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from llmscale.errors import InputError, LlmscaleError, with_article

Member = TypeVar("Member")

DIGITS = 16
"""Hexadecimal digits of a file's SHA-256 in the name of what is in it."""
CHOSEN = frozenset({"arch", "executor", "optimizer", "schedule", "source", "steps", "track"})
"""Settings of a TOML file that take a choice of the user's own."""
_IN_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>[A-Za-z_]\w*))?")
_PINNED = re.compile(
    rf"(?P<file>[^/\\:@]+\.py)(?::(?P<name>[A-Za-z_]\w*))?@(?P<digest>[0-9a-f]{{{DIGITS}}})"
)
_MODULE = "llmscale_own_"
"""What the names of modules made from users' files begin with."""
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class OwnFile:
    """A file of the user's own, as it was when it was read."""

    file: str
    """Its name, without the folder."""
    text: str
    path: str
    """Where it lies; only its name if only the text has come here."""

    @cached_property
    def digest(self) -> str:
        """The first digits of the SHA-256 of its text in UTF-8."""
        import hashlib

        return hashlib.sha256(self.text.encode()).hexdigest()[:DIGITS]


_files: dict[str, OwnFile] = {}
"""By `file@digest`: what this process may run."""
_modules: dict[str, ModuleType] = {}
"""By `path@digest`, once they have been run."""


class Menu(Collection[str], Generic[Member]):
    """The choices in the folder of a package, and in files of the user's own.

    `is_member` says which object of a file is the choice: there is exactly one in each file of the
    folder. Without it, the module itself is; and of a user's file this, or any object in it that is
    named. `ready` turns what was found into what `find` returns; `tried` does so with what is in a
    user's file, of which it says what it is (`schedule 'f' of ./s.py`), and tries it on a small
    example first. Both raise InputError; whatever else a user's file raises then is told of with
    its line. `with_options` says what a choice of the folder is if there are options behind its
    name, as in `moe:16x2`: it gets the choice and the text, which may be empty, and gives the
    choice with them and the text that results keep. `marked_by` says what `is_member` looks for."""

    def __init__(
        self,
        package: str,
        word: str,
        option: str,
        *,
        is_member: Callable[[Any], bool] | None = None,
        ready: Callable[[Any], Any] = lambda found: found,
        tried: Callable[[Any, str], Any] | None = None,
        with_options: Callable[[Any, str], tuple[Any, str]] | None = None,
        own: str = "Mine",
        marked_by: str = "",
    ) -> None:
        self.package, self.word, self.option = package, word, option
        self._is_member, self._ready, self._own_name = is_member, ready, own
        self._tried = tried or (lambda found, title: ready(found))
        self._with_options, self._marked_by = with_options, marked_by
        self._found: dict[str, Member] = {}
        self._kept_names: dict[str, str] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The choices in the folder, as options take them; files with an underscore are none."""
        return names_in(self.package)

    def __contains__(self, name: object) -> bool:
        """Whether `name` may be asked for: one of the folder, or of a file of the user's own."""
        return isinstance(name, str) and (self._in_names(name) or is_own(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> Member:
        """The choice `name`. Raises InputError that names the nearest one, or says what is wrong
        with the user's file."""
        name = self.pin(name)
        # What one file says under two paths is found twice, so that messages name the right one.
        key = f"{name} {self._file_of(name).path}" if is_own(name) else name
        if key not in self._found:
            find = self._own if is_own(name) else self._in_folder
            self._found[key] = find(name)
        return self._found[key]

    def pin(self, name: str) -> str:
        """`name` as results keep it: a file of one's own is read, and its digest put to its name.
        Raises InputError, also for what is no choice or does not give what it must."""
        if self._in_names(name):
            return self._kept_name(name)
        if not is_own(name):
            self.check(name)
        if _PINNED.fullmatch(name):
            self._file_of(name)
            return name
        given = _IN_FILE.fullmatch(name)
        assert given is not None
        own = _read(given["path"], self.example, self.word)
        _files[f"{own.file}@{own.digest}"] = own
        wanted = given["name"]
        if wanted is None and self._is_member is not None:
            wanted = self._only_name(own, name)
        pinned = f"{own.file}{f':{wanted}' if wanted else ''}@{own.digest}"
        self.find(pinned)
        return pinned

    def accepts(self, name: str) -> bool:
        """Whether `name` is one that results may hold, though its file need not be here."""
        return self._in_names(name) or _PINNED.fullmatch(name) is not None

    def check(self, name: str) -> None:
        """Raise InputError unless results may hold `name`. No file is read."""
        if not self.accepts(name):
            raise InputError(f"there is no {self.word} {name!r}", self._nearest(name))

    def is_here(self, name: str) -> bool:
        """Whether `find` can give `name`, of a name that results hold."""
        pinned = _PINNED.fullmatch(name)
        return self._in_names(name) or (pinned is not None and _key(pinned) in _files)

    def summaries(self) -> dict[str, str]:
        """The first line of what each file of the folder says it is, by name; none is imported."""
        return {name: self._summary(name) for name in self.names}

    @property
    def takes_options(self) -> bool:
        """Whether options may stand behind the name of a choice in the folder."""
        return self._with_options is not None

    @property
    def example(self) -> str:
        """How to ask for a choice of one's own."""
        return f"{self.option} ./mine.py:{self._own_name}"

    @property
    def choices(self) -> str:
        """All that may be chosen, for help and messages."""
        return f"{', '.join(self.names)}, or one of your own, as {self.example}"

    def _nearest(self, name: str) -> str:
        import difflib

        asked = name.lower().replace("_", "-")
        near = difflib.get_close_matches(asked, self.names, n=1, cutoff=0.5)
        guess = f"did you mean {near[0]}? " if near else ""
        words = f"{self.word[0].upper()}{self.word[1:]}s"
        return f"{guess}{words} are {', '.join(self.names)}; one of your own is {self.example}"

    def _summary(self, name: str) -> str:
        import ast

        spec = importlib.util.find_spec(self.package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        path = Path(next(iter(spec.submodule_search_locations)), f"{name.replace('-', '_')}.py")
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return said.partition("\n\n")[0].replace("\n", " ")

    def _in_names(self, name: str) -> bool:
        """Whether `name` is of a choice in the folder, with options behind it or without."""
        choice, behind, _ = name.partition(":")
        return choice in self.names and (not behind or self._with_options is not None)

    def _kept_name(self, name: str) -> str:
        """The name of a choice in the folder with its options as results keep them."""
        if self._with_options is None:
            return name
        if name not in self._kept_names:  # a ladder of shapes asks thousands of times
            choice, _, options = name.partition(":")
            kept = self._with_options(self._in_folder(choice), options)[1]
            self._kept_names[name] = f"{choice}:{kept}" if kept else choice
        return self._kept_names[name]

    def _in_folder(self, name: str) -> Any:
        name, _, options = name.partition(":")
        found = self._member_of(name)
        if options and self._with_options is not None:
            return self._with_options(found, options)[0]
        return found

    def _member_of(self, name: str) -> Any:
        module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        if self._is_member is None:
            return self._ready(module)
        members = self._members(module)
        if len(members) != 1:
            raise TypeError(
                f"{module.__name__} must define one {self.word}, and defines {len(members)}"
            )
        return self._ready(next(iter(members.values())))

    def _own(self, name: str) -> Any:
        pinned = _PINNED.fullmatch(name)
        assert pinned is not None
        own = self._file_of(name)
        module, wanted = _run(own), pinned["name"]
        found, title = module, f"{self.word} {own.path}"
        if wanted is not None or self._is_member is not None:
            members = self._members(module)
            if wanted not in members:
                raise self._missing(own, wanted, members, hasattr(module, str(wanted)))
            found, title = members[wanted], f"{self.word} {wanted!r} of {own.path}"
        with errors_named(own.path, f"cannot be used as {with_article(self.word)}", self._contract):
            return self._tried(found, title)

    def _missing(
        self, own: OwnFile, wanted: str | None, members: Collection[str], is_there: bool
    ) -> InputError:
        has = f"its {self.word}s are" if self._is_member and members else "it defines"
        why = f": its {wanted} is not {self._marked_by}" if is_there and self._marked_by else ""
        return InputError(
            f"{own.path} has no {self.word} called {wanted!r}{why}",
            f"{has} {', '.join(members) or 'none'}; {self._contract}",
        )

    def _only_name(self, own: OwnFile, asked: str) -> str:
        members = self._members(_run(own))
        if len(members) == 1:
            return next(iter(members))
        fix = f"say which: {self.option} {asked}:{next(iter(members))}" if members else None
        raise InputError(f"{own.path} has {len(members)} {self.word}s", fix or self._contract)

    def _members(self, module: ModuleType) -> dict[str, Any]:
        """The objects that a module defines itself, of those that are choices."""
        return {
            name: value
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__
            and not name.startswith("_")
            and (self._is_member is None or self._is_member(value))
        }

    def _file_of(self, name: str) -> OwnFile:
        pinned = _PINNED.fullmatch(name)
        assert pinned is not None
        if _key(pinned) not in _files:
            raise InputError(
                f"the {self.word} {name} is in a file that this command does not name",
                f"name the file: {self.option} FOLDER/{name.partition('@')[0]}",
            )
        return _files[_key(pinned)]

    @property
    def _contract(self) -> str:
        return f"python -m pydoc {self.package} says what it must give"


def names_in(package: str) -> tuple[str, ...]:
    """The choices in a folder, as options take them; the folder itself is not imported."""
    import pkgutil

    folder = importlib.util.find_spec(package)
    assert folder is not None
    assert folder.submodule_search_locations is not None
    found = (one.name for one in pkgutil.iter_modules(folder.submodule_search_locations))
    return tuple(sorted(name.replace("_", "-") for name in found if name[0] != "_"))


def is_own(name: str) -> bool:
    """Whether `name` is of something in a user's file, as it was given or as results hold it."""
    return bool(_IN_FILE.fullmatch(name) or _PINNED.fullmatch(name))


def as_asked(name: str) -> str:
    """A choice that results name as an option takes it: with the path of its file, if known."""
    pinned = _PINNED.fullmatch(name)
    if pinned is None or _key(pinned) not in _files:
        return name
    return _files[_key(pinned)].path + (f":{pinned['name']}" if pinned["name"] else "")


def bare_name(name: str) -> str:
    """A choice's name as that of a file can be: `my_figure` of ./mine.py:my_figure."""
    given = _IN_FILE.fullmatch(name) or _PINNED.fullmatch(name)
    if given is None:
        return name
    place = given.groupdict()
    return given["name"] or Path(place.get("path") or place["file"]).stem


def beside(table: Any, folder: Path, key: str = "") -> Any:
    """A table of a TOML file whose choices of the user's own are looked for from `folder`. A
    `source` that ends in .py is a text to train on; only with a name it is code."""
    if isinstance(table, dict):
        return {name: beside(value, folder, name) for name, value in table.items()}
    if isinstance(table, list):
        return [beside(value, folder, key) for value in table]
    given = _IN_FILE.fullmatch(table) if isinstance(table, str) and key in CHOSEN else None
    if given is None or (key == "source" and given["name"] is None):
        return table
    name = f":{given['name']}" if given["name"] else ""
    return f"{folder / Path(given['path']).expanduser()}{name}"


def texts_of(names: Iterable[str]) -> dict[str, str]:
    """The files of those `names` that are of users' files, by `file@digest`, to be received."""
    pinned = [found for name in names if (found := _PINNED.fullmatch(name))]
    return {_key(one): _files[_key(one)].text for one in pinned}


def receive(texts: Mapping[str, str]) -> None:
    """Let this process run files that `texts_of` gave elsewhere. Raises InputError if a text is not
    the one that its digest is of."""
    for key, text in texts.items():
        file, _, digest = key.rpartition("@")
        own = OwnFile(file, str(text), file)
        if own.digest != digest or not _PINNED.fullmatch(f"{file}:x@{digest}"):
            raise InputError(f"the text of {key} is not the one that it was", "start it again")
        _files.setdefault(key, own)


def path_of(module: str) -> str | None:
    """The user's file that the module of this name was made from; None for any other."""
    return (
        getattr(sys.modules.get(module), "__file__", None)
        if module[: len(_MODULE)] == _MODULE
        else None
    )


def file_of(found: Any) -> str:
    """The user's file that an object or a module is from, as messages name it."""
    module: str = getattr(found, "__module__", None) or found.__name__
    return path_of(module) or module


@contextmanager
def errors_named(path: str, what: str, fix: str) -> Iterator[None]:
    """What a user's file raises, as an InputError that names its line."""
    try:
        yield
    except LlmscaleError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{line_of(error, path) or path} {what}: {said(error)}", fix) from error


def own_mistake(error: BaseException) -> InputError | None:
    """What a user's file raised, in a sentence that names its line; None if it was not in one."""
    lines = (line_of(error, own.path) for own in _files.values())
    line = next(filter(None, lines), None)
    return InputError(f"{line} fails: {said(error)}", "change the file") if line else None


def line_of(error: BaseException, path: str) -> str:
    """`mine.py, line 12`: the last line of the file that the error passed through, or nothing."""
    import traceback

    if isinstance(error, SyntaxError) and error.filename == path and error.lineno:
        return f"{path}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f"{path}, line {lines[-1]}" if lines else ""


def said(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, SystemExit):
        return f"SystemExit, which would end the program (code {error.code})"
    return f"{type(error).__name__}: {error}"


def _key(pinned: re.Match[str]) -> str:
    return f"{pinned['file']}@{pinned['digest']}"


def _read(text: str, example: str, word: str) -> OwnFile:
    path = Path(text).expanduser()
    fix = f"give FILE.py:NAME, like {example}"
    if not path.is_file():
        raise InputError(f"there is no file {text} to read the {word} from", fix)
    try:
        content = path.read_bytes()
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it has {len(content):,} bytes")
        return OwnFile(path.name, content.decode("utf-8-sig"), str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Python: {error}", fix) from error


def _run(own: OwnFile) -> ModuleType:
    """The module that the file is, run once."""
    import linecache

    key = f"{own.path}@{own.digest}"
    if key in _modules:
        return _modules[key]
    module = ModuleType(f"{_MODULE}{Path(own.file).stem}_{own.digest}_{len(_modules)}")
    module.__file__ = own.path
    # Registered, since dataclasses look their module up; and for tracebacks, which show lines.
    sys.modules[module.__name__] = module
    lines = own.text.splitlines(keepends=True)
    linecache.cache[own.path] = (len(own.text), None, lines, own.path)
    with errors_named(own.path, "cannot be run", "change the file: it is run when it is read"):
        exec(compile(own.text, own.path, "exec"), vars(module))
    _modules[key] = module
    return module
