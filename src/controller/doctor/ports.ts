import type { Check, Finding } from "./check.ts";

/** Published ports whose sockets the daemon does not hold. That their rules are there is seen by the firewall's check. */
export const portsCheck: Check = {
  name: "published ports",
  async run({ context: { ports }, probe }) {
    return (ports?.missing ?? []).map(({ container, protocol, port }): Finding => {
      const owner = probe.portOwner(protocol, port);
      return {
        code: "port-not-held",
        subject: `container ${container}`,
        what: `port ${port}/${protocol} of the host is ${owner === undefined ? "not held" : `held by ${owner}`}`,
        expected: "held by the daemon",
        consequence: "clients on this host reach that program, or nobody; those outside are still led to the container",
        remedy: `stop the other program: the port is taken back within seconds. Or publish another port. Look with: ss -lntup 'sport = :${port}'`,
        repairable: false,
      };
    });
  },
};
