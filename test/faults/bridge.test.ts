import { scenarios } from "./scenarios.ts";
import { walkEach } from "./walk-each.ts";

/** Operations on bridge networks, and what is of this host alone, at every point. */
walkEach(scenarios.filter(({ store }) => store === "embedded"));
