"""Where visitors upload files; who tests something else has a `site` of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.postgres import TestDatabase
from support.uploads import MEGABYTE, UploadSite, Visitor, upload_site


@pytest.fixture(scope="module")
async def site(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[UploadSite]:
    async with upload_site(test_database, tmp_path_factory.mktemp("uploads")) as site:
        yield site


@pytest.fixture
async def anna(site: UploadSite) -> Visitor:
    return await site.newcomer(attachments={"enabled": True, "max_bytes": 20 * MEGABYTE})
