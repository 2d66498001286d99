/** IANA's UDP port for VXLAN (RFC 7348 section 5), as in the original. */
export const vxlanPort = 4789;
