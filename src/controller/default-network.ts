import { option } from "../drivers/options.ts";
import { errorText } from "../errors.ts";
import { hostNamespace } from "../linux/plan.ts";
import { type Context, idOfMark } from "./context.ts";
import type { CreateNetwork } from "./model.ts";
import { dockerBridge, dockerIsHere } from "./other-programs.ts";

/** Makes the default network where it is missing: on `docker0` as in the original, unless that is Docker's. */
export const ensureDefaultNetwork = async (
  context: Context,
  create: (request: CreateNetwork) => Promise<unknown>,
): Promise<void> => {
  const { defaultNetwork: name, defaultDriver: driver, state, log } = context;
  if (name === "" || state.networkNamed(name)) return;
  const options: Record<string, string> = {};
  if (driver === "bridge" && name === "bridge") {
    const owner = await bridgeOwner(context);
    if (owner === undefined) options[option.bridgeName] = dockerBridge;
    else log("warning", `${dockerBridge} ${owner}: the default network gets a bridge of its own name`);
  }
  try {
    await create({ name, driver, options });
  } catch (error) {
    log("warning", `default network ${name} could not be made: ${errorText(error)}`);
  }
};

/** Whose Docker's bridge is where we may not have it. */
const bridgeOwner = async (context: Context): Promise<string | undefined> => {
  const host = await context.kernel.observe(hostNamespace);
  const present = host?.links.find((link) => link.name === dockerBridge);
  if (present && idOfMark(context, present.alias) === undefined) return "belongs to another program";
  // Docker may start later than we do: it takes the bridge of that name that it finds then.
  return (await dockerIsHere(context.probe)) ? "is Docker's, which is on this host" : undefined;
};
