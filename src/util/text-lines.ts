/** The lines of a stream of UTF-8, without their ends; what follows the last one is a line too. Errors: those of the stream; RangeError for a line of more than `maxBytes`. */
export async function* textLines(stream: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<string> {
  let begun: Uint8Array[] = [];
  let size = 0;
  const take = (end: Uint8Array): string => {
    const line = Buffer.concat([...begun, end]).toString('utf8');
    begun = [];
    size = 0;
    return line;
  };
  for await (const chunk of stream) {
    let at = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, at)) {
      yield take(chunk.subarray(at, end));
      at = end + 1;
    }
    if (at === chunk.length) continue;
    begun.push(chunk.subarray(at));
    size += chunk.length - at;
    if (size > maxBytes) throw new RangeError(`a line has more than ${maxBytes} bytes`);
  }
  if (size > 0) yield take(new Uint8Array());
}
