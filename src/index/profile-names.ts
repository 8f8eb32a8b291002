// Media types of profiles: docs/profile.md.

/** Of the manifest, and of its config, for registries that know no artifact types. */
export const peelProfileType = 'application/vnd.peel.profile.v1+json';
export const peelProfileSpansType = 'application/vnd.peel.profile.spans.v1+json';

export const profileVersion = 1;
/** Of the spans of a profile, in bytes. */
export const maxProfileBytes = 16 << 20;
export const maxProfileLayers = 4096;
/** Of a layer. */
export const maxProfileSpans = 65_536;
