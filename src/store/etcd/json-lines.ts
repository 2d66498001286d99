/** Longer lines end the stream: it is untrusted. etcd's fragments are below 2 MiB (a third more in base64) unless told otherwise. */
const maxLine = 16 * 1024 * 1024;

/** A stream of JSON values, one a line. @throws Error where a line is too long or no JSON */
export async function* jsonLines(stream: AsyncIterable<Buffer>): AsyncGenerator<unknown> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    let rest = chunk;
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      const line = Buffer.concat([...parts, rest.subarray(0, end)]).toString();
      parts = [];
      length = 0;
      rest = rest.subarray(end + 1);
      if (line.trim() !== "") yield JSON.parse(line) as unknown;
    }
    if (rest.length > 0) parts.push(rest);
    length += rest.length;
    if (length > maxLine) throw new Error(`a line longer than ${maxLine} bytes`);
  }
}
