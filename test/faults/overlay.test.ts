import { scenarios } from "./scenarios.ts";
import { walkEach } from "./walk-each.ts";

/** Operations on overlay networks over a real store, at every point. */
walkEach(scenarios.filter(({ store }) => store === "etcd"));
