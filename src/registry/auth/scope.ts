// Token scopes (distribution "Token Scope Documentation"): `repository:library/debian:pull,push`, several separated by spaces.

export interface ResourceScope {
  /** `repository:library/debian` or `registry:catalog`: everything before the last colon. */
  readonly resource: string;
  readonly actions: ReadonlySet<string>;
}

export class Scope {
  /** Sorted by resource, one entry per resource: the same rights always give the same text. */
  readonly resources: readonly ResourceScope[];

  constructor(resources: Iterable<ResourceScope>) {
    const merged = new Map<string, Set<string>>();
    for (const { resource, actions } of resources) {
      merged.set(resource, new Set([...(merged.get(resource) ?? []), ...actions]));
    }
    this.resources = [...merged]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([resource, actions]) => ({ resource, actions }));
  }

  static repository(name: string, ...actions: readonly string[]): Scope {
    return new Scope([{ resource: `repository:${name}`, actions: new Set(actions) }]);
  }

  static parse(text: string): Scope {
    return new Scope(
      text
        .split(' ')
        .filter((part) => part !== '')
        .map((part) => {
          const colon = part.lastIndexOf(':');
          if (colon < 0) return { resource: part, actions: new Set<string>() };
          return { resource: part.slice(0, colon), actions: new Set(part.slice(colon + 1).split(',')) };
        }),
    );
  }

  /** The repository that a request with this scope is about: the one it writes to (a mount reads another), else the first. */
  get repository(): string | undefined {
    const repositories = this.resources.filter(({ resource }) => resource.startsWith('repository:'));
    const written = repositories.find(({ actions }) => actions.has('push')) ?? repositories[0];
    return written?.resource.slice('repository:'.length);
  }

  union(other: Scope): Scope {
    return new Scope([...this.resources, ...other.resources]);
  }

  /** Whether a token for this scope is enough for `other`. */
  contains(other: Scope): boolean {
    return other.resources.every((wanted) => {
      const held = this.resources.find(({ resource }) => resource === wanted.resource);
      return (
        held !== undefined && [...wanted.actions].every((action) => held.actions.has(action) || held.actions.has('*'))
      );
    });
  }

  /** One text per resource, as the `scope` parameters of a token request. */
  toStrings(): string[] {
    return this.resources.map(({ resource, actions }) =>
      actions.size === 0 ? resource : `${resource}:${[...actions].sort().join(',')}`,
    );
  }

  toString(): string {
    return this.toStrings().join(' ');
  }
}
