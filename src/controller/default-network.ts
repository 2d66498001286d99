import { option } from "../drivers/options.ts";
import { errorText } from "../errors.ts";
import { hostNamespace } from "../linux/plan.ts";
import { type Context, idOfMark } from "./context.ts";
import type { CreateNetwork } from "./model.ts";

/** Makes the default network where it is missing: on `docker0`, where nobody else has that. */
export const ensureDefaultNetwork = async (
  context: Context,
  create: (request: CreateNetwork) => Promise<unknown>,
): Promise<void> => {
  const { defaultNetwork: name, defaultDriver: driver, state, kernel, log } = context;
  if (name === "" || state.networkNamed(name)) return;
  const options: Record<string, string> = {};
  if (driver === "bridge" && name === "bridge") {
    const host = await kernel.observe(hostNamespace);
    const present = host?.links.find((link) => link.name === "docker0");
    if (!present || idOfMark(context, present.alias) !== undefined) options[option.bridgeName] = "docker0";
    else log("warning", "docker0 belongs to another program: the default network gets a bridge of its own name");
  }
  try {
    await create({ name, driver, options });
  } catch (error) {
    log("warning", `default network ${name} could not be made: ${errorText(error)}`);
  }
};
