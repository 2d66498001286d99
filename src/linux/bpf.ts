/** Classic BPF, as socket filters are written in (linux/filter.h, bpf_common.h): instructions of eight bytes. */

/** Codes: the accumulator A is loaded, the index X too, jumps go so many instructions on, a return says how much of a packet is kept. */
export const bpf = {
  loadHalf: 0x28,
  loadByte: 0x30,
  loadWord: 0x20,
  loadNumber: 0x00,
  indexNumber: 0x01,
  jumpEqual: 0x15,
  jumpAnySet: 0x45,
  keep: 0x06,
} as const;

/** Loads are in network byte order, and so is what is compared. */
export const swapped = (half: number): number => ((half & 0xff) << 8) | (half >> 8);

/** Offset from which loading finds, for A where the attributes begin and X their type, where that attribute is; 0: nowhere. */
export const netlinkAttribute = 0xffff_f000 + 12;

/** struct sock_filter. */
export const instruction = (code: number, jumpTrue: number, jumpFalse: number, k: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt8(jumpTrue, 2);
  bytes.writeUInt8(jumpFalse, 3);
  bytes.writeUInt32LE(k, 4);
  return bytes;
};
