import type { Descriptor } from '../../oci/descriptor.ts';
import { contentProblem } from '../blob-content.ts';
import type { BlobWriter, CallOptions } from '../interface.ts';

/** Pushes a whole blob as an upload; nothing of the upload is left when it fails. Errors: SIZE_INVALID, DIGEST_INVALID, those of the stream. */
export async function pushAsUpload(
  upload: BlobWriter,
  descriptor: Descriptor,
  body: () => AsyncIterable<Uint8Array>,
  options: CallOptions = {},
): Promise<Descriptor> {
  const { digest, size } = descriptor;
  try {
    for await (const chunk of body()) {
      // More than announced is not stored first.
      checkSize(descriptor, upload.size + chunk.byteLength > size ? upload.size + chunk.byteLength : size);
      await upload.write(chunk, options);
    }
    checkSize(descriptor, upload.size);
    await upload.commit(digest, options);
    return descriptor;
  } finally {
    await upload.cancel();
  }
}

function checkSize({ digest, size }: Descriptor, seen: number): void {
  const wrong = contentProblem(digest, size, digest, seen);
  if (wrong !== null) throw wrong;
}
