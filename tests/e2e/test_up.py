"""Starting twice, and where one cannot. Stopping and being killed are in `test_interruptions`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.running import STONECHAT, Running, environment, free_port


async def test_a_second_start_says_where_the_first_one_answers(stonechat: Running) -> None:
    process = await asyncio.create_subprocess_exec(
        str(STONECHAT),
        "up",
        env=environment(stonechat.data_dir, PORT=str(free_port())),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode != 0
    assert stonechat.url in output.decode()
    assert "Traceback" not in output.decode()


async def test_a_data_folder_that_cannot_be_one_is_said_in_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.write_text("a file")
    process = await asyncio.create_subprocess_exec(
        str(STONECHAT),
        "up",
        env=environment(folder, PORT=str(free_port())),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 1
    assert "STONECHAT_DATA_DIR" in said
    assert "Traceback" not in said
