/** One `Key=value` of a unit. */
export interface UnitSetting {
  readonly section: string;
  readonly key: string;
  readonly value: string;
}

/** The settings of a unit's text in their order, as systemd.syntax(7) has them. */
export function unitSettings(text: string): UnitSetting[] {
  const settings: UnitSetting[] = [];
  let section = '';
  for (const line of text.replace(/\\\n/g, ' ').split('\n')) {
    const header = /^\[(.*)\]$/.exec(line)?.[1];
    if (header !== undefined) section = header;
    else if (!/^[#;]/.test(line) && line.includes('=')) {
      const at = line.indexOf('=');
      settings.push({ section, key: line.slice(0, at).trim(), value: line.slice(at + 1).trim() });
    }
  }
  return settings;
}
