import type { ServiceResource } from "../../src/api/resources.ts";
import { addressOf } from "../../src/net/prefix.ts";
import type { StoreContents } from "./check-store.ts";
import type { ObservedHost } from "./observe-host.ts";

/** A node as it shows itself. */
export interface NodeView {
  readonly name: string;
  readonly instance: string;
  readonly networks: readonly string[];
  readonly sandboxes: readonly string[];
  readonly services: readonly ServiceResource[];
}

/** What differs between a host's kernel and what the store and the node say must be there. */
export const checkKernel = (contents: StoreContents, node: NodeView, kernel: ObservedHost): readonly string[] => {
  const overlays = contents.networks.filter(({ driver }) => driver === "overlay");
  const ofOverlay = contents.endpoints.filter(({ network }) => overlays.some(({ id }) => id === network));
  const here = ofOverlay.filter(({ sandbox }) => sandbox?.node === node.instance);
  const present = overlays.filter(({ id }) => here.some(({ network }) => network === id));
  const namespaceOf = (name: string) => kernel.namespaces.find((one) => one.name === name);
  const problems: string[] = [];
  const same = (what: string, expected: readonly string[], found: readonly string[]) => {
    for (const one of expected) if (!found.includes(one)) problems.push(`${node.name}: ${what}: ${one} is missing`);
    for (const one of found) if (!expected.includes(one)) problems.push(`${node.name}: ${what}: ${one} is too much`);
  };
  same(
    "namespaces",
    [...node.sandboxes.map((id) => id.slice(0, 12)), ...present.map(({ id }) => `1-${id.slice(0, 10)}`)],
    kernel.namespaces.map(({ name }) => name),
  );
  const claims = contents.endpoints.flatMap(({ name, sandbox }) =>
    sandbox?.node === node.instance && !node.sandboxes.includes(sandbox.id) ? [name] : [],
  );
  same("endpoints claimed by sandboxes that are gone", [], claims);
  const withoutLinks = new Set(contents.networks.filter(({ driver }) => driver === "test").map(({ id }) => id));
  for (const sandbox of node.sandboxes) {
    const attached = node.services.filter(
      (one) => one.sandbox_id === sandbox && !withoutLinks.has(one.network_id ?? ""),
    );
    const found = namespaceOf(sandbox.slice(0, 12))?.links.filter(({ name }) => name !== "lo") ?? [];
    same(
      `sandbox ${sandbox.slice(0, 12)}`,
      attached.map(({ interface: name, addresses }) => `${name} ${addresses}`),
      found.map(({ name, addresses }) => `${name} ${addresses}`),
    );
  }
  for (const { id, name } of present) {
    const space = namespaceOf(`1-${id.slice(0, 10)}`);
    const members = ofOverlay.filter(({ network, sandbox }) => network === id && sandbox !== undefined);
    const peers = members.filter(({ sandbox }) => sandbox?.node !== node.instance);
    same(
      `ports of overlay ${name}`,
      here.filter(({ network }) => network === id).map((endpoint) => `veth${endpoint.id.slice(0, 11)}`),
      space?.links.map((link) => link.name).filter((link) => link.startsWith("veth")) ?? [],
    );
    same(
      `forwarding of overlay ${name}`,
      peers.map(({ mac, sandbox }) => `${mac} ${sandbox?.vtep}`),
      space?.forwarding ?? [],
    );
    same(
      `neighbours of overlay ${name}`,
      peers.flatMap(({ mac, addresses }) => addresses.map((address) => `${addressOf(address)} ${mac}`)),
      space?.neighbors ?? [],
    );
  }
  const mark = `dnet:${node.instance}:`;
  const known = [
    ...node.networks,
    ...node.services.flatMap((service) => (service.sandbox_id === undefined ? [] : [service.id])),
  ];
  const orphans = kernel.host.links.filter(
    ({ alias }) => alias.startsWith(mark) && !known.includes(alias.slice(mark.length)),
  );
  same(
    "links without an owner",
    [],
    orphans.map(({ name }) => name),
  );
  return problems;
};
