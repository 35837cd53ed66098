"""Everything hostile, in a real browser, from a real server: nothing runs, nothing is fetched, nothing opens.

Once under the frame's policy, which must have nothing to refuse, and once without it: the policy is the second wall, and
what only the policy stops has already passed the first. `widget/test/hostile.test.ts` looks at each vector by itself.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Request, Route, expect

from support.api import Tenant, new_tenant
from support.browser import profile
from support.fake_openai import chat_text, fake_openai
from support.history import add_history, add_threads
from support.hostile import ADDRESSES, CONFIG, MARKDOWN, TEXTS, stored_items, streamed_events
from support.running import Running, Site, customer_site

pytestmark = pytest.mark.browser

KNOWN_PATHS = (
    "/e/pk_",
    "/embed.js",
    "/embed/frame",
    "/embed/assets/",
    "/embed/ticket",
    "/v1/sessions",
    "/chatkit",
    "/v1/uploads/",
)
WATCH = """
globalThis.ran = [];
globalThis.refused = [];
for (const name of ['pwned', 'alert', 'confirm', 'prompt', 'open', 'print']) globalThis[name] = () => { ran.push(name); return null };
addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI, sample }) =>
  refused.push(`${effectiveDirective} ${blockedURI} ${sample}`));
"""
# As far as the browser's own hands go: whatever is near is laid out, and every event that comes by itself has come.
SEE_IT_ALL = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  for (let more; (more = document.querySelector('.earlier')) && !more.hidden; await frame()) more.click();
  for (const part of document.querySelectorAll('.part')) { part.scrollIntoView(); await frame(); }
  const types = ['load', 'error', 'focus', 'blur', 'mouseover', 'pointerenter', 'toggle', 'beforetoggle', 'begin', 'animationstart'];
  for (const element of document.querySelectorAll('body *')) for (const type of types) element.dispatchEvent(new Event(type));
  await new Promise((done) => setTimeout(done, 200));
  return document.querySelectorAll('.message').length;
}"""
# What is in the document that we never put there, by the item that it stands in.
SUSPICIOUS = r"""() => {
  const tags = /^(A|P|BR|HR|STRONG|EM|DEL|CODE|PRE|UL|OL|LI|BLOCKQUOTE|H[1-6]|TABLE|CAPTION|THEAD|TBODY|TR|TH|TD|DIV|SPAN|SUP|Q|MARK|IMG|BUTTON|INPUT|TEXTAREA|SELECT|OPTION|LABEL|FORM|FIELDSET|DETAILS|SUMMARY|DL|DT|DD|I|PROGRESS|HEADER|FOOTER|MAIN|SECTION|DIALOG|NOSCRIPT|svg|path|rect|circle|line|text|title)$/;
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    if (element.matches('body > script')) continue;
    const where = element.closest('[data-item-id]')?.dataset.itemId ?? '';
    if (!tags.test(element.tagName)) found.push(`${where} <${element.tagName}>`);
    for (const { name, value } of element.attributes) {
      const bad = /^(on|srcdoc|srcset|action|formaction|ping|background|xlink|is$|nonce|manifest|poster|http-equiv)/.test(name)
        || (name === 'href' && !/^(https?:\/\/|mailto:)/.test(value) && !element.querySelector('img'))
        || (name === 'src' && !/^(data:image\/(png|jpeg|webp|gif);base64,|\/v1\/uploads\/)/.test(value))
        || (name === 'style' && /url|image|src\(|expression|@import|fixed|\\/i.test(value.replace(/--icon:[^;]*/, '')));
      if (bad) found.push(`${where} ${element.tagName}[${name}=${value}]`);
    }
  }
  return found;
}"""


@dataclass
class Shop:
    tenant: Tenant
    running: Running
    key: str

    @property
    def snippet(self) -> str:
        return f'<script async src="{self.running.url}/e/{self.key}.js" data-open></script>'


@pytest.fixture(scope="module")
async def shop(stonechat: Running, site: Site) -> AsyncIterator[Shop]:
    spoken = "\n\n".join(
        vector for vector in MARKDOWN if len(vector) < 300 and not vector.startswith(("```", "~~~", "<!"))
    )
    pieces = [spoken[at : at + 64] for at in range(0, len(spoken), 64)]
    async with fake_openai(chat_text(*pieces)) as model, new_tenant(stonechat, "<script>pwned()</script>") as tenant:
        provider = {"name": "fake", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
        await tenant.call("POST", "/model-providers", 201, json=provider)
        agent = await tenant.agent(model="fake/hostile", knowledge={"enabled": False}, **CONFIG)
        site.pages["/favicon.ico"] = "-"
        yield Shop(tenant, stonechat, await tenant.domain_key(agent, site.origin))


async def say(page: Page, text: str) -> None:
    field = page.frame_locator("[data-stonechat] iframe").locator(".composer textarea")
    await field.fill(text)
    await field.press("Enter")


@pytest.mark.parametrize("policy", ["with", "without"])
async def test_nothing_runs_is_fetched_or_opens(browser: Browser, shop: Shop, site: Site, policy: str) -> None:
    fetched: list[str] = []
    happened: list[str] = []

    def asked(request: Request) -> None:
        url = urlsplit(request.url)
        known = f"{url.scheme}://{url.netloc}" == shop.running.url and url.path.startswith(KNOWN_PATHS)
        if not known and url.scheme != "data" and not request.url.startswith(site.origin):
            fetched.append(request.url)

    async def told(route: Route) -> None:
        asked_for = route.request.post_data_json or {}
        if asked_for.get("type") != "threads.add_user_message":
            return await route.continue_()
        body = "".join(
            f"id: run_1:{at}\ndata: {json.dumps(event)}\n\n" for at, event in enumerate(streamed_events(), 1)
        )
        headers = {"Content-Type": "text/event-stream", "Stonechat-Run": "run_1"}
        return await route.fulfill(status=200, headers=headers, body=body)

    async with profile(browser, bypass_csp=policy == "without") as context:
        await context.add_init_script(WATCH)
        page = await context.new_page()
        context.on("request", asked)
        context.on("page", lambda opened: happened.append(f"opened {opened.url}"))
        page.on("dialog", lambda dialog: happened.append(f"dialog {dialog.message}"))
        page.on("pageerror", lambda error: happened.append(f"error {error}"))
        await page.goto(site.paste("/hostile", shop.snippet))
        chat = page.frame_locator("[data-stonechat] iframe")

        await say(page, "Say it all")
        await expect(chat.locator("[data-role=assistant][data-status=done]")).to_have_count(1, timeout=30_000)
        items = stored_items()
        await add_history(shop.running, shop.tenant.id, [each | {"id": f"{policy}_{each['id']}"} for each in items])
        await add_threads(shop.running, shop.tenant.id, [*TEXTS, *ADDRESSES][:300], prefix=policy)
        await page.reload()
        frame = await (await page.locator("[data-stonechat] iframe").element_handle()).content_frame()
        assert frame is not None
        await expect(chat.locator(".message").first).to_be_attached()
        address = frame.url
        drawn = await frame.evaluate(SEE_IT_ALL)
        assert drawn == len(items) + 2
        assert await frame.evaluate(SUSPICIOUS) == []

        await page.route("**/chatkit", told)
        await say(page, "And now the rest")
        await expect(chat.locator("[data-item-id=end]")).to_be_attached(timeout=30_000)
        await frame.evaluate(SEE_IT_ALL)
        assert await frame.evaluate(SUSPICIOUS) == []

        # In all that there is, a name is long looked for.
        await chat.locator("header").first.get_by_role("button", name="Conversations and privacy").click()
        await expect(chat.locator(".thread-open").first).to_be_visible()
        assert await frame.evaluate(SUSPICIOUS) == []

        for each in (page.main_frame, frame):
            assert await each.evaluate("ran") == []
            assert await each.evaluate("refused") == [], "only the policy stopped these"
        assert frame.url == address
        assert page.url == f"{site.origin}/hostile"
        assert happened == []
        assert fetched == []

        # The watch was awake.
        await frame.evaluate("() => { pwned(); new Image().src = 'https://evil.example/' }")
        await page.wait_for_timeout(100)
        assert await frame.evaluate("ran.length + refused.length") + len(fetched) >= 2


LISTENER = """
window.answers = [];
window.hello = { type: 'stonechat:hello', version: 1, layout: 'inline', locale: null, userToken: null };
window.greet = (to, data, name) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }) => answers.push(`${name} ${data.type}`);
  to.postMessage(data, '*', [port2]);
};
"""


async def test_the_frame_believes_the_page_that_holds_it_and_nobody_else(page: Page, shop: Shop, site: Site) -> None:
    stranger = (
        "<script>addEventListener('message', () => { const { port1, port2 } = new MessageChannel();"
        " port1.onmessage = () => parent.postMessage('believed', '*');"
        " parent.frames[0].postMessage({ type: 'stonechat:hello', version: 1, layout: 'inline', locale: null, userToken: null }, '*', [port2]); })</script>"
    )
    frames = (
        f'<iframe src="{shop.running.url}/embed/frame?k={shop.key}"></iframe>'
        f'<iframe sandbox="allow-scripts" srcdoc="{stranger}"></iframe>'
    )
    await page.goto(site.paste("/held", f"<script>{LISTENER}</script>{frames}"))
    await page.evaluate("addEventListener('message', ({ data }) => data === 'believed' && answers.push('stranger'))")
    for wrong in (
        '"hello"',
        "{ ...hello, type: 'x' }",
        "{ ...hello, version: 2 }",
        "{ ...hello, layout: 'x' }",
        "{ ...hello, userToken: {} }",
    ):
        await page.evaluate(f"greet(frames[0], {wrong}, 'wrong')")
    await page.evaluate("frames[1].postMessage('go', '*'); frames[0].postMessage(hello, '*')")
    await page.wait_for_timeout(150)
    assert await page.evaluate("answers") == []
    await page.evaluate("greet(frames[0], hello, 'page')")
    await page.wait_for_function("() => answers.length > 0")
    # Once believed, nobody else is heard.
    await page.evaluate("greet(frames[0], hello, 'second')")
    await page.wait_for_timeout(100)
    assert {answer.split()[0] for answer in await page.evaluate("answers")} == {"page"}


async def test_a_page_that_is_not_on_the_keys_list_cannot_hold_the_frame(page: Page, shop: Shop) -> None:
    with customer_site("127.0.0.1") as other:
        await page.goto(other.paste("/thief", f'<iframe src="{shop.running.url}/embed/frame?k={shop.key}"></iframe>'))
        await page.wait_for_timeout(100)
        assert page.frames[1].url.startswith(("chrome-error:", "about:blank"))
