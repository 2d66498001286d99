import { randomBytes } from "node:crypto";
import { badRequest, shown } from "../errors.ts";

/** Ids of networks, endpoints and sandboxes: 64 hex digits. */
export const newId = (): string => randomBytes(32).toString("hex");

/** @throws NetworkError `invalid-id` (bad request) */
export const checkId = (id: string): string => {
  if (!/^[0-9a-f]{64}$/.test(id)) {
    throw badRequest("invalid-id", `invalid id: ${shown(id)}`, {
      hint: "an id has 64 hex digits in lower case",
    });
  }
  return id;
};

const rule = "letters, digits, - and _, at most 63, beginning with a letter or digit";

/** A network's name: no dot, so that SERVICE.NETWORK has one reading. @throws NetworkError `invalid-name` */
export const checkNetworkName = (name: string): string => {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/.test(name)) {
    throw badRequest("invalid-name", `invalid name: ${printable(name)}`, { hint: `a network's name has ${rule}` });
  }
  return name;
};

/** A driver's name, as plugins have it: `weave`, `vendor/net-plugin:latest`. Never a path (CVE-2021-20206). @throws NetworkError `invalid-driver` */
export const checkDriverName = (name: string): string => {
  const part = "[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?";
  if (name.length > 255 || !new RegExp(`^${part}(/${part})*(:[A-Za-z0-9._-]+)?$`).test(name)) {
    throw badRequest("invalid-driver", `invalid driver name: ${printable(name)}`);
  }
  return name;
};

/** A service's name or an alias: labels of a host name, dots between. @throws NetworkError `invalid-name` */
export const checkServiceName = (name: string): string => {
  if (name.length > 253 || !/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9][A-Za-z0-9_-]{0,62})*$/.test(name)) {
    throw badRequest("invalid-name", `invalid name: ${printable(name)}`, {
      hint: `each part between dots has ${rule}`,
    });
  }
  return name;
};

/** A container's id or name: it becomes a name in DNS and in files. @throws NetworkError `invalid-container-id` */
export const checkContainerId = (id: string): string => {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/.test(id)) {
    throw badRequest("invalid-container-id", `invalid container ID${id === "" ? "" : `: ${printable(id)}`}`, {
      hint: "letters, digits, -, _ and ., at most 128, beginning with a letter or digit",
    });
  }
  return id;
};

/** What was refused, safe to print: bounded, control characters escaped. */
const printable = (text: string): string => {
  const short = text.length > 80 ? `${text.slice(0, 80)}...` : text;
  return /^[\x20-\x7e]*$/.test(short) ? short : JSON.stringify(short);
};
