/** The fourth script, loaded where an agent's maker chose OpenAI's front end: brings it, or says that ours is to stand in. */
export { runStock } from "./stock/run.ts";
