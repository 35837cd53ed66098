/** OpenAI's ChatKit as a component of yours, talking to Stonechat. */
import { ChatKit, useChatKit } from "@openai/chatkit-react";
import { useEffect, useState } from "react";
import { connect, type Connection } from "../../stonechat.ts";

export interface ChatProps {
  /** Where Stonechat runs, such as `https://chat.example.com`. */
  readonly platform: string;
  /** `pk_…`, made under Install for the address of this page. */
  readonly domainKey: string;
  /** From OpenAI, for the address of this page; anything will do on localhost. */
  readonly openaiDomainKey: string;
}

/** Opens the session, then shows the chat. */
export function Chat({ platform, domainKey, openaiDomainKey }: ChatProps) {
  const [connection, setConnection] = useState<Connection | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let current = true;
    connect({ platform, domainKey }).then(
      (made) => current && setConnection(made),
      (error: unknown) => current && setProblem(error instanceof Error ? error.message : String(error)),
    );
    return () => {
      current = false;
    };
  }, [platform, domainKey]);
  if (problem) return <p role="alert">The chat cannot be shown: {problem}</p>;
  if (!connection) return <p role="status">Loading the chat…</p>;
  return <Connected platform={platform} openaiDomainKey={openaiDomainKey} connection={connection} />;
}

interface ConnectedProps {
  readonly platform: string;
  readonly openaiDomainKey: string;
  readonly connection: Connection;
}

function Connected({ platform, openaiDomainKey, connection: { agent, fetch } }: ConnectedProps) {
  const { control, sendUserMessage } = useChatKit({
    api: { url: `${platform}/chatkit`, domainKey: openaiDomainKey, fetch, uploadStrategy: { type: "two_phase" } },
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
    onError: ({ error }) => console.error(error),
  });
  return (
    <>
      <ChatKit control={control} />
      <button type="button" onClick={() => void sendUserMessage({ text: "What are your opening hours?" })}>
        Ask for the opening hours
      </button>
    </>
  );
}
