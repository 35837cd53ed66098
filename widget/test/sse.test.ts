import { describe, expect, it } from "vitest";
import { frameParser, type Frame } from "../src/net/sse.ts";

const parse = (...chunks: string[]): Frame[] => {
  const frames: Frame[] = [];
  const feed = frameParser((frame) => frames.push(frame));
  chunks.forEach(feed);
  return frames;
};

const STREAM =
  '\uFEFF: ping\r\nid: run_1:1\r\ndata: {"a":1}\r\n\r\n: ping\n\nid: run_1:2\ndata: first\ndata:second\nevent: x\n\ndata\rid:run_1:3\r\rdata: no id\n\n';
const FRAMES = [
  { id: "run_1:1", data: '{"a":1}' },
  { id: "run_1:2", data: "first\nsecond" },
  { id: "run_1:3", data: "" },
  { id: "", data: "no id" },
];

describe("the event-stream parser", () => {
  it("reads a whole stream", () => {
    expect(parse(STREAM)).toEqual(FRAMES);
  });

  it("reads the same from every split in two", () => {
    for (let at = 0; at <= STREAM.length; at++) expect(parse(STREAM.slice(0, at), STREAM.slice(at))).toEqual(FRAMES);
  });

  it("reads the same from every split in three", () => {
    for (let one = 0; one <= STREAM.length; one++) {
      for (let two = one; two <= STREAM.length; two++) {
        expect(parse(STREAM.slice(0, one), STREAM.slice(one, two), STREAM.slice(two))).toEqual(FRAMES);
      }
    }
  });

  it("reads the same character by character", () => {
    expect(parse(...STREAM)).toEqual(FRAMES);
  });

  it("drops a frame that was not finished", () => {
    expect(parse("data: half")).toEqual([]);
  });

  it("keeps no more than it must of a line without an end", () => {
    expect(() => parse("data: ".padEnd(5 * 1024 * 1024, "x"))).toThrow("too long");
  });
});
