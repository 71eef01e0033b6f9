"""Files of data sets and models: `owner/name@<commit>:<glob>` of the Hub (or its cache), or a folder with the same files."""

import shutil
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import httpx
from huggingface_hub import HfApi, constants, errors, get_cached_repo_tree, snapshot_download

from m2rl_lib.config.locations import ROOT
from m2rl_lib.config.value_types import PINNED

RESERVE = 2 * 2**30  # bytes of disk that stay free


class SourceError(ValueError):
    """A source that cannot be had or is not what it should be; the message is one line that says what to do."""


@dataclass(frozen=True)
class Source:
    """A repository `name` at `revision`, or a `folder` with the files of one; `files` is a glob of those that are wanted."""

    name: str
    revision: str = ""
    folder: Path | None = None
    files: str = "*"
    kind: str = "dataset"  # or "model"

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.folder is None else f"folder {self.folder}"


def parse_source(text: str, kind: str = "dataset") -> Source:
    """The source that a parameter names; a relative folder starts at the repository root."""
    if pinned := PINNED.fullmatch(text):
        return Source(pinned["name"], pinned["revision"], None, pinned["files"] or "*", kind)
    folder = (ROOT / text).resolve()
    if not folder.is_dir():
        raise SourceError(f"{kind} folder {text} does not exist; give a folder that does, or owner/name@<commit>")
    return Source(folder.name, folder=folder, kind=kind)


def find_dataset(sources: list[str], name: str) -> Source | None:
    """The first source of data set `name` among a study's: by its name, or as a subfolder of a mirror."""
    for source in map(parse_source, sources):
        if source.folder is None and source.name == name:
            return source
        if source.folder is not None and (source.folder / name).is_dir():
            return replace(source, name=name, folder=source.folder / name)
    return None


def list_files(source: Source) -> dict[str, int]:
    """The source's files that match its glob, with their sizes in bytes; nothing is downloaded."""
    look = _cached if constants.is_offline_mode() else _listed
    files = _sizes(source.folder) if source.folder else _ask(source, look)
    return {name: size for name, size in sorted(files.items()) if fnmatch(name, source.files)}


def _listed(**where) -> dict[str, int]:
    return {entry.path: entry.size for entry in HfApi().list_repo_tree(recursive=True, **where) if hasattr(entry, "size")}


def _cached(**where) -> dict[str, int]:
    """The files of the repository, as its last download listed them, or those in the cache where there is no such list."""
    try:
        return {entry.path: entry.size for entry in get_cached_repo_tree(**where)}
    except errors.CachedRepoTreeNotFoundError:
        return _sizes(Path(snapshot_download(local_files_only=True, **where)))


def _sizes(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def fetch_files(source: Source, names: list[str]) -> Path:
    """A folder with the named files of the source, downloaded where they are not here yet and the disk has room for them."""
    if source.folder is None and not constants.is_offline_mode():
        sizes = list_files(source)  # one request; a dry run of `snapshot_download` makes one for each file
        check_disk(sum(sizes.get(name, 0) for name in names), Path(constants.HF_HUB_CACHE), f"downloading {source}")
    folder = source.folder or Path(_ask(source, snapshot_download, allow_patterns=names))
    if lacking := [name for name in names if not (folder / name).is_file()]:
        if source.folder:
            raise SourceError(f"{source} lacks {lacking[0]}; copy it there, or give {source.name} by owner/name@<commit>")
        raise SourceError(f"{source}: {lacking[0]} is not on this machine: run again with network and HF_HUB_OFFLINE=0")
    return folder


def check_disk(needed: int, folder: Path, what: str) -> None:
    """SourceError where less than `needed` bytes (and RESERVE) are free where `folder` is or will be."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if needed + RESERVE > free:
        raise SourceError(
            f"{what}: {needed / 1e9:.1f} GB of disk and {RESERVE / 1e9:.0f} GB to spare are needed, {place} has {free / 1e9:.1f} GB free; "
            "free some (downloads go where HF_HOME says)"
        )


def _ask(source: Source, call, **more):
    """`call` about the source's repository, its errors as SourceError in one line."""
    where = {"repo_id": source.name, "repo_type": source.kind, "revision": source.revision, **more}
    page = f"https://huggingface.co/{'datasets/' if source.kind == 'dataset' else ''}{source.name}"
    try:
        return call(**where)
    except errors.GatedRepoError:
        line = f"{source} is gated: accept its terms at {page}, then `hf auth login`, or set HF_TOKEN"
    except errors.RevisionNotFoundError:
        line = f"{source.name} has no commit {source.revision}: {page}/commits/main lists them"
    except errors.RepositoryNotFoundError:
        line = f"{source.name} is not on the Hub or needs a token: see {page}, then `hf auth login`, or set HF_TOKEN"
    except (errors.HfHubHTTPError, httpx.HTTPError, OSError) as error:  # not in the cache and offline are OSErrors, too
        kind, given = (" --repo-type dataset", "./FOLDER") if source.kind == "dataset" else ("", f"./FOLDER/{source.name}")
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else f"the Hub cannot be reached ({type(error).__name__})"
        line = (
            f"{source} is not on this machine and {why}: run again with network and HF_HUB_OFFLINE=0, or where there is network "
            f"`hf download {source.name} --revision {source.revision}{kind} --local-dir FOLDER/{source.name}` and give {given}"
        )
    raise SourceError(" ".join(line.split()))
