/** OpenAI's `<openai-chatkit>` on your own page, talking to Stonechat. */
import type { ChatKitOptions, OpenAIChatKit } from "@openai/chatkit";
import { connect, type Agent } from "../../stonechat.ts";

const place = document.getElementById("chat") as HTMLElement;
const { platform = "", domainKey = "", openaiDomainKey = "" } = place.dataset;

function optionsOf(agent: Agent, api: ChatKitOptions["api"]): ChatKitOptions {
  return {
    api,
    theme: { density: agent.theme.density, color: { accent: { primary: agent.theme.accent, level: 2 } } },
    header: { title: { text: agent.name } },
    history: { enabled: true, showDelete: true, showRename: true },
    startScreen: { greeting: agent.greeting, prompts: [...agent.prompts] },
    composer: {
      placeholder: agent.placeholder,
      ...(agent.attachments.enabled && {
        attachments: { enabled: true, maxSize: agent.attachments.max_bytes ?? 0, maxCount: agent.attachments.max_files ?? 1 },
      }),
    },
    threadItemActions: { feedback: agent.feedback, retry: true },
    ...(agent.disclaimer && { disclaimer: { text: agent.disclaimer } }),
  };
}

async function start(): Promise<void> {
  const { agent, fetch } = await connect({ platform, domainKey });
  await customElements.whenDefined("openai-chatkit");
  const chat = document.createElement("openai-chatkit") as OpenAIChatKit;
  chat.setOptions(
    optionsOf(agent, { url: `${platform}/chatkit`, domainKey: openaiDomainKey, fetch, uploadStrategy: { type: "two_phase" } }),
  );
  chat.addEventListener("chatkit.error", ({ detail }) => console.error(detail.error));
  place.replaceChildren(chat);
}

start().catch((error: unknown) => {
  place.textContent = `The chat cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
});
