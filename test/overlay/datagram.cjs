// Sends or receives UDP datagrams in the namespace it is started in.
//   send ADDRESS PORT SOURCE HEX          one datagram
//   listen GROUP PORT INTERFACE-ADDRESS   prints "ready", then each datagram's bytes in hex, one a line
const dgram = require("node:dgram");
const [what, address, port, local, hex] = process.argv.slice(2);
const socket = dgram.createSocket({ type: address.includes(":") ? "udp6" : "udp4", reuseAddr: true });
if (what === "send") {
  socket.bind(0, local, () => {
    if (/^(22[4-9]|23\d)\./.test(address)) socket.setMulticastInterface(local);
    else if (address === "255.255.255.255" || address.endsWith(".255")) socket.setBroadcast(true);
    socket.send(Buffer.from(hex, "hex"), Number(port), address, () => socket.close());
  });
} else {
  socket.on("message", (bytes) => console.log(bytes.toString("hex")));
  socket.bind(Number(port), () => {
    if (/^(22[4-9]|23\d)\./.test(address)) socket.addMembership(address, local);
    console.log("ready");
  });
}
