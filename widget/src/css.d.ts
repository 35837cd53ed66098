declare module "*.css" {
  /** The minified text of the sheet; see the plugin in build.mjs. */
  const text: string;
  export default text;
}
