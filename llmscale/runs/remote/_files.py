"""One folder of a file system that fsspec knows, by plain relative names."""

import json
import os
import platform
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, WorkError
from llmscale.errors.printable import has_keys, masked

_DIGESTS = ("ETag", "etag", "md5", "content_hash")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems call that which tells one content of a file from another."""


class FileSystem:
    """The files below `url`. Raises InputError if its file system is unknown or not installed."""

    def __init__(self, url: str) -> None:
        import fsspec
        from fsspec import AbstractFileSystem

        protocol = url.partition("://")[0]
        shown = masked(url)
        try:
            fs, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            package = getattr(error.__cause__ or error, "name", None) or protocol
            problem = f"{shown} needs the package {package}"
            raise InputError(problem, f"pip install {package}") from error
        except Exception as error:  # each file system has its own, and some connect at once
            fix = "check its name, the network and the keys"
            if isinstance(error, ValueError):
                fix = "use a URL like s3://bucket/name"
            raise InputError(f"{shown} cannot be opened: {reason(error)}", fix) from error
        self._fs, self._root = fs, root.rstrip("/")
        self.url = masked(url.rstrip("/"))
        """To be shown and written: without its keys."""
        self.full_url = url.rstrip("/")
        """To be opened, as it was given."""
        self.canonical: str = self.url if has_keys(url) else fs.unstrip_protocol(self._root)
        """The same for all spellings of one place, and for all keys to it."""
        self.takes_threads = bool(fs.async_impl)
        # If files can be moved they are written beside and moved; elsewhere, as at S3, a file
        # appears when whole.
        self._moves = type(fs).mv is not AbstractFileSystem.mv

    def listing(self) -> dict[str, str]:
        """All files, with what tells one content from another. Empty without a folder."""
        self._fs.invalidate_cache()
        kwargs = {"on_error": "raise"} if _finds_by_walking(self._fs) else {}
        try:
            found = self._fs.find(self._root, detail=True, **kwargs)
        except FileNotFoundError:
            return {}
        prefix = self._root + "/"
        below = {path: info for path, info in found.items() if path.startswith(prefix)}
        return {path.removeprefix(prefix): _mark(info) for path, info in below.items()}

    def get(self, name: str, path: Path) -> None:
        """Write the file to `path`. Raises FileNotFoundError; WorkError if part is missing."""
        self._fs.invalidate_cache()
        size = self._fs.info(self._path(name))["size"]
        self._fs.get_file(self._path(name), str(path))
        came = path.stat().st_size
        if size is not None and came != size:
            raise WorkError(f"{self.url}/{name} came with {came} of {size} bytes", "try again")

    def put(self, path: Path, name: str) -> str:
        """Send the file, and return what identifies its content there."""
        place = self._path(name)
        if self._moves:
            parent, _, last = place.rpartition("/")
            beside = f"{parent}/.{last}.{platform.node()}-{os.getpid()}.part"
            self._fs.makedirs(parent, exist_ok=True)
            self._fs.put_file(str(path), beside)
            self._fs.mv(beside, place)
        elif self._fs.protocol == "memory":
            self._fs.pipe_file(place, path.read_bytes())
        else:
            self._fs.put_file(str(path), place)
        self._fs.invalidate_cache()
        return _mark(self._fs.info(place))

    def remove(self, name: str) -> None:
        """Remove the file, if it is there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A small file's content; None if it is not there, or is being written."""
        self._fs.invalidate_cache()
        try:
            content: dict[str, Any] = json.loads(self._fs.cat_file(self._path(name)))
        except (FileNotFoundError, ValueError):
            return None
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        place = self._path(name)
        if self._moves:
            self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(place, json.dumps(content).encode())

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def reason(error: BaseException) -> str:
    """The first line of an error, and its kind if that says more; keys in URLs are masked."""
    text = masked(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def _mark(info: dict[str, Any]) -> str:
    keys = (*_DIGESTS, *_TIMES)
    value = next((info[key] for key in keys if info.get(key) is not None), "")
    moment = value.timestamp() if isinstance(value, datetime) else value
    return f"{info.get('size')} {moment}"


def _finds_by_walking(fs: Any) -> bool:
    """Whether `find` is fsspec's own, which takes folders it cannot list for empty."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    if isinstance(fs, AsyncFileSystem):
        return type(fs)._find is AsyncFileSystem._find
    return type(fs).find is AbstractFileSystem.find
