import type { HostProbe } from "../../linux/host-probe.ts";
import type { Finding } from "./check.ts";

/**
 * Drivers of network cards that are known to compute checksums of encapsulated packets wrongly, or to drop them, while this is
 * left to the card: connections over VXLAN stall (flannel 1282, kubernetes 88986).
 */
const known: Readonly<Record<string, string>> = {
  vmxnet3: "some versions of ESXi take port 4789 for their own and drop what they should only checksum",
  be2net: "its offload works for one VXLAN port and sends others with wrong checksums",
  bnx2x: "its firmware sends encapsulated packets with wrong checksums",
};

/** Features of a card that compute checksums inside encapsulated packets, as ethtool(8) calls them. */
const features = ["tx-udp_tnl-csum-segmentation", "tx-udp_tnl-segmentation"] as const;

/** The device that encapsulated packets leave by. Nothing is found where ethtool(8) is not there to ask. */
export const offloadFindings = async (
  probe: HostProbe,
  device: string,
  signal?: AbortSignal,
): Promise<readonly Finding[]> => {
  const card = await probe.offload(device, signal);
  const trouble = card && known[card.driver];
  const on = features.filter((feature) => card?.features.includes(feature));
  if (!card || trouble === undefined || on.length === 0) return [];
  return [
    {
      code: "checksum-offload",
      subject: `interface ${device}`,
      what: `driver ${card.driver} has ${on.join(" and ")} on: ${trouble}`,
      expected: "checksums of encapsulated packets computed by the kernel",
      consequence:
        "large transfers between containers on different hosts may stall for a minute, while pings get through",
      remedy: `if they do: ethtool -K ${device} ${on.map((feature) => `${feature} off`).join(" ")}; and the same at every boot`,
      repairable: false,
    },
  ];
};
