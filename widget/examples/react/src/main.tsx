import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Chat } from "./Chat.tsx";

const place = document.getElementById("chat") as HTMLElement;
const { platform = "", domainKey = "", openaiDomainKey = "" } = place.dataset;

createRoot(place).render(
  <StrictMode>
    <Chat platform={platform} domainKey={domainKey} openaiDomainKey={openaiDomainKey} />
  </StrictMode>,
);
