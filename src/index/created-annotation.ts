/** When something was made, as an RFC 3339 time (OCI image spec, annotations.md). */
export const createdAnnotation = 'org.opencontainers.image.created';
