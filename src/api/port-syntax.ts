/** The syntax of ports for the command line, which imports the API's schemas only. */
export { type ParsedPort, parseExpose, parsePublish } from "../ports/port-syntax.ts";
