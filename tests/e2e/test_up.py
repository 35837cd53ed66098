"""Starting, stopping, starting twice, and being killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from support.running import STONECHAT, Running, environment, free_port, start


def processes_of(data_dir: Path) -> list[str]:
    """Command lines of live processes that name the folder or work inside it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            inside = os.readlink(entry / "cwd").startswith(str(data_dir))
            alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            continue
        if alive and (inside or str(data_dir) in line):
            found.append(line)
    return found


async def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    running = await start(tmp_path / "data", demo=False)
    assert processes_of(running.data_dir)
    assert await running.stop(signal.SIGINT) == 0
    deadline = time.monotonic() + 10
    while left := processes_of(running.data_dir):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.1)


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
