import { badRequest } from "../errors.ts";
import { parseBody, readFields } from "./body.ts";
import type { DiagnosisResource, GarbageResource, RepairResource } from "./resources.ts";
import type { Route } from "./routes.ts";

/** Nodes in one request; each is looked up among all. */
const mostNodes = 1_000;

/** Differences between what should be and what is, and what removes them. */
export const doctorRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/doctor",
    status: 200,
    run: ({ controller, nodes, signal }): Promise<DiagnosisResource> => controller.diagnose(nodes.nodes(), signal),
  },
  {
    method: "POST",
    path: "/doctor/repair",
    status: 200,
    run: ({ controller, nodes, signal }): Promise<RepairResource> => controller.repair(nodes.nodes(), signal),
  },
  {
    method: "POST",
    path: "/gc",
    status: 200,
    run: ({ controller, nodes, body, signal }): Promise<GarbageResource> => {
      const fields = readFields(parseBody(body), "garbageCollect", {
        nodes: "strings",
        endpoints: "boolean",
        dry_run: "boolean",
      });
      const asked = fields.nodes ?? [];
      if (asked.length > mostNodes) throw badRequest("too-many-entries", `invalid nodes: at most ${mostNodes} entries`);
      const request = { nodes: asked, endpoints: fields.endpoints ?? false, dryRun: fields.dry_run ?? false };
      return controller.collectGarbage(nodes.nodes(), request, signal);
    },
  },
];
