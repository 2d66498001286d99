// Puts Ethernet frames on an interface of the namespace it runs in: INTERFACE HEX... What no stack would send.
import koffi from "koffi";

const libc = koffi.load(null);
const socket = libc.func("int socket(int domain, int type, int protocol)");
const indexOf = libc.func("uint32_t if_nametoindex(const char *name)");
const sendto = libc.func(
  "intptr_t sendto(int fd, void *bytes, uintptr_t length, int flags, void *address, uint32_t size)",
);

const AF_PACKET = 17;
const SOCK_RAW = 3;

const [name = "", ...frames] = process.argv.slice(2);
const fd = socket(AF_PACKET, SOCK_RAW, 0);
if (fd < 0) throw new Error(`socket: errno ${koffi.errno()}`);
// struct sockaddr_ll of linux/if_packet.h
const address = Buffer.alloc(20);
address.writeUInt16LE(AF_PACKET, 0);
address.writeInt32LE(Number(indexOf(name)), 4);
for (const hex of frames) {
  const frame = Buffer.from(hex, "hex");
  if (Number(sendto(fd, frame, frame.length, 0, address, address.length)) !== frame.length) {
    throw new Error(`sendto ${name}: errno ${koffi.errno()}`);
  }
}
