import { describe, expect, it } from "vitest";
import { socketInodes } from "./port-owner.ts";

/** Lines of proc(5), as the kernel writes them. */
const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 28170 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 28171 1 0 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:C351 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
   3: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 28172 1 0 100 0 0 10 0
garbage
`;

describe("sockets of a port", () => {
  it("are found by their local port, listening ones alone where that is asked", () => {
    expect(socketInodes(table, 8080, true)).toEqual(["28170"]);
    expect(socketInodes(table, 8080, false)).toEqual(["28170", "28171"]);
    expect(socketInodes(table, 80, true)).toEqual(["28172"]);
    expect(socketInodes(table, 8000, false)).toEqual([]);
    expect(socketInodes("", 80, false)).toEqual([]);
  });
});
