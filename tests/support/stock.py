"""A double of OpenAI's CDN: the script that defines `<openai-chatkit>`, its frame, and the built examples of pages that use it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.async_api import BrowserContext, Page, Route

from support.running import ROOT

CDN = "https://cdn.platform.openai.com/deployments/chatkit/"
FRAME = b"<!doctype html><title>Double</title><script>parent.postMessage('loaded', '*')</script>"
_WIDGET = ROOT / "widget"
_BUILD_SECONDS = 60


def build(entry: str, out: Path, *options: str) -> bytes:
    """A TypeScript file of `widget/` with all that it imports, as one script."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    node = shutil.which("node", path=path)
    assert node is not None, "`make test` installs Node"
    command = [node, "node_modules/esbuild/bin/esbuild", entry, "--bundle", "--target=es2022", f"--outfile={out}"]
    done = subprocess.run([*command, *options], cwd=_WIDGET, capture_output=True, timeout=_BUILD_SECONDS, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return out.read_bytes()


@dataclass
class Stock:
    """The double's script, and the scripts of the examples, built."""

    script: bytes
    vanilla: bytes
    react: bytes

    async def serve(self, context: BrowserContext, how: str = "up") -> list[str]:
        """Stand in for the CDN in this browser: `up`, `refused`, `hanging` or `silent` (it loads, and never is ready)."""
        asked: list[str] = []

        async def answer(route: Route) -> None:
            asked.append(route.request.url)
            if how == "refused":
                await route.abort("connectionrefused")
            elif how == "silent":
                await route.fulfill(content_type="text/javascript", body="")
            elif how == "up" and route.request.url == f"{CDN}chatkit.js":
                await route.fulfill(content_type="text/javascript", body=self.script)
            elif how == "up" and route.request.url == f"{CDN}index.html":
                await route.fulfill(content_type="text/html", body=FRAME)
            # otherwise nobody ever answers

        await context.route("https://cdn.platform.openai.com/**", answer)
        return asked


def built(folder: Path) -> Stock:
    """Build everything; takes about a second."""
    react = ("--jsx=automatic", "--format=esm", '--define:process.env.NODE_ENV="production"')
    return Stock(
        script=build("test/double/chatkit.ts", folder / "chatkit.js", "--format=iife"),
        vanilla=build("examples/vanilla/src/main.ts", folder / "vanilla.js", "--format=esm"),
        react=build("examples/react/src/main.tsx", folder / "react.js", *react),
    )


@contextlib.contextmanager
def own_pages(files: dict[str, tuple[str, bytes]]) -> Iterator[str]:
    """A customer's site that serves these (path → type, content); yields its origin, which no frame of ours is of."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = files.get(self.path, ("text/plain", b"nothing here"))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def own_page(example: str, *, platform: str, domain_key: str) -> bytes:
    """The example's own page, with its place filled in as its README says."""
    page = (_WIDGET / "examples" / example / "index.html").read_text("utf-8")
    for before, after in (("http://127.0.0.1:8000", platform), ("pk_replace_me", domain_key)):
        assert before in page
        page = page.replace(before, after)
    return page.encode()


async def say(page: Page, words: str, *, within: str = "") -> None:
    """Write into the double's composer and send."""
    place = page.frame_locator(within) if within else page
    field = place.get_by_role("textbox", name="Message")
    await field.fill(words)
    await field.press("Enter")
