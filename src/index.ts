/** The library's public exports. */

export { type Advertise, advertiseAddress } from "./cluster/advertise.ts";
export { Cluster } from "./cluster/cluster.ts";
export type { ClusterOptions, SerfOptions } from "./cluster/cluster-options.ts";
export type { ClusterNode } from "./cluster/merge-nodes.ts";
export type { LibnetworkOptions } from "./controller/assemble.ts";
export type { Log } from "./controller/context.ts";
export { Libnetwork } from "./controller/libnetwork.ts";
export type {
  Controller,
  CreateEndpoint,
  CreateNetwork,
  CreateSandbox,
  EndpointInfo,
  NetworkInfo,
  SandboxInfo,
  SubnetRequest,
} from "./controller/model.ts";
export { type CreateLibnetworkOptions, createLibnetwork } from "./create-libnetwork.ts";
export { bridgeDriver } from "./drivers/bridge/bridge-driver.ts";
export type {
  Attachment,
  DriverEndpoint,
  DriverNetwork,
  DriverSandbox,
  NetworkDriver,
  Options,
  Scope,
  Subnet,
} from "./drivers/driver.ts";
export { hostDriver } from "./drivers/host/host-driver.ts";
export { nullDriver } from "./drivers/null/null-driver.ts";
export { overlayDriver } from "./drivers/overlay/overlay-driver.ts";
export { testDriver } from "./drivers/test/test-driver.ts";
export { type ErrorKind, NetworkError } from "./errors.ts";
export type { AddressSet, Ipam, Pool, PoolContext, PoolRequest } from "./ipam/ipam.ts";
export { describe } from "./linux/describe.ts";
export type { Kernel, Observed, ObservedLink } from "./linux/kernel.ts";
export { hostNamespace, inverse, inversePlan, type LinkSpec, type Operation, type Plan, plan } from "./linux/plan.ts";
export { WorkerKernel } from "./linux/worker-kernel.ts";
export { type Family, type Ip, parseIp } from "./net/ip.ts";
export { type Mac, parseMac } from "./net/mac.ts";
export { type InterfaceAddress, type Prefix, parseInterfaceAddress, parsePrefix } from "./net/prefix.ts";
export type { ExposedPort, PortProtocol, PortRequest, PublishedPort } from "./ports/port-mapping.ts";
export { parseRequest as parsePortRequest } from "./ports/port-text.ts";
export { ConsulStore, type ConsulStoreOptions } from "./store/consul/consul-store.ts";
export type { EtcdStoreOptions } from "./store/etcd/etcd-options.ts";
export { EtcdStore } from "./store/etcd/etcd-store.ts";
export { SqliteStore } from "./store/sqlite/sqlite-store.ts";
export type { Check, Json, Lease, Put, Store, StoreEntry, Transaction, TransactionResult } from "./store/store.ts";
