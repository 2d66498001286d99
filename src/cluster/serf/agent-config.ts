import { badRequest } from "../../errors.ts";
import type { Ip } from "../../net/ip.ts";

/** The configuration file of a serf agent; keys as `serf agent` reads them. */
export interface SerfAgentConfig {
  readonly name: string;
  readonly bind: Ip;
  /** Told to others where it is not what serf is bound to. */
  readonly advertise?: Ip;
  readonly port: number;
  readonly rpcPort: number;
  readonly rpcAuth: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Base64 of 16, 24 or 32 bytes. */
  readonly encrypt?: string;
  readonly debug: boolean;
}

export const hostPort = (address: Ip, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

export const agentConfigText = (config: SerfAgentConfig): string =>
  `${JSON.stringify(
    {
      node_name: config.name,
      bind: hostPort(config.bind, config.port),
      ...(config.advertise !== undefined && { advertise: hostPort(config.advertise, config.port) }),
      rpc_addr: `127.0.0.1:${config.rpcPort}`,
      rpc_auth: config.rpcAuth,
      tags: config.tags,
      ...(config.encrypt !== undefined && { encrypt_key: config.encrypt }),
      log_level: config.debug ? "debug" : "info",
      leave_on_terminate: true,
      // How long a leaving agent waits until the others have heard; they may all be leaving as well.
      broadcast_timeout: "1s",
      // A name is used by one daemon only: what has the same name is what this daemon was before, at another address.
      disable_name_resolution: true,
    },
    undefined,
    2,
  )}\n`;

/** For `serf` on the command line: `. FILE; serf members`. */
export const agentEnvText = (rpcPort: number, rpcAuth: string): string =>
  `export SERF_RPC_ADDR=127.0.0.1:${rpcPort}\nexport SERF_RPC_AUTH=${rpcAuth}\n`;

/**
 * The agent's name: host, instance, and the port where it is not the standard one. Serf takes a name at another port for an
 * impostor until it has forgotten the first.
 */
export const agentName = (hostName: string, instance: string, port: number, standardPort: number): string => {
  const host = hostName.replaceAll(/[^A-Za-z0-9.-]/g, "-").slice(0, 64);
  return `${host}-${instance}${port === standardPort ? "" : `-${port}`}`;
};

/** @throws NetworkError `invalid-encrypt` (bad request); the key itself is never shown */
export const checkEncryptKey = (key: string): string => {
  const bytes = Buffer.from(key, "base64");
  if (![16, 24, 32].includes(bytes.length) || bytes.toString("base64") !== key) {
    throw badRequest("invalid-encrypt", "invalid cluster.encrypt: it is not base64 of 16, 24 or 32 bytes", {
      hint: "serf keygen makes one; every node needs the same",
    });
  }
  return key;
};
