"""Files that are too large for the database: originals of documents, and what visitors attach.

One small interface over a folder (the embedded default) or any S3-compatible store.
"""

from __future__ import annotations

from stonechat.errors import Unavailable
from stonechat.files.folder import FolderStore, folder_of
from stonechat.files.s3 import S3Access, S3Store
from stonechat.files.store import MAX_FILE_BYTES, FileStore
from stonechat.settings import Settings

__all__ = ["MAX_FILE_BYTES", "FileStore", "FolderStore", "S3Access", "S3Store", "open_file_store", "open_files"]


def open_files(settings: Settings) -> FileStore:
    """The store that `STONECHAT_FILES_URL` names; connects to nothing yet."""
    return open_file_store(
        settings.files_url,
        access=S3Access(
            key_id=settings.s3_access_key_id or "",
            secret=settings.s3_secret_access_key.get_secret_value() if settings.s3_secret_access_key else "",
            session_token=settings.s3_session_token.get_secret_value() if settings.s3_session_token else None,
            region=settings.s3_region,
            endpoint=settings.s3_endpoint,
        ),
    )


def open_file_store(url: str, *, access: S3Access | None = None) -> FileStore:
    """A folder, plain or as `file:///…`, or `s3://bucket/prefix`; `Unavailable` for anything else."""
    if url.startswith("s3://"):
        if access is None or not access.key_id or not access.secret:
            raise Unavailable(
                "STONECHAT_FILES_URL names a bucket: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, too."
            )
        return S3Store(url, access=access)
    return FolderStore(folder_of(url))
