/** WHATWG event-stream framing over chunks split anywhere, even inside a CRLF. */
export interface Frame {
  readonly data: string;
  /** This frame's own id, or "": unlike in the standard none is carried over, for frames without one mean it. */
  readonly id: string;
}

const MAX_BUFFER = 4 * 1024 * 1024;

export function frameParser(onFrame: (frame: Frame) => void): (chunk: string) => void {
  let buffer = "";
  let data: string[] = [];
  let id = "";
  let afterReturn = false;
  let first = true;

  const line = (text: string) => {
    if (text === "") {
      if (data.length) onFrame({ data: data.join("\n"), id });
      data = [];
      id = "";
      return;
    }
    const colon = text.indexOf(":");
    if (colon === 0) return; // a comment, sent to keep the connection open
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + (text[colon + 1] === " " ? 2 : 1));
    if (field === "data") data.push(value);
    else if (field === "id" && !value.includes("\0")) id = value;
  };

  return (chunk) => {
    if (!chunk) return;
    let text = chunk;
    if (first && text.startsWith("\uFEFF")) text = text.slice(1);
    first = false;
    if (afterReturn && text.startsWith("\n")) text = text.slice(1);
    if (!text) {
      afterReturn = false;
      return;
    }
    afterReturn = text.endsWith("\r");
    const lines = (buffer + text).split(/\r\n|\r|\n/);
    buffer = lines.pop() ?? "";
    if (buffer.length > MAX_BUFFER) throw new Error("a line of the event stream is too long");
    lines.forEach(line);
  };
}
