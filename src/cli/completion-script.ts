// Completion scripts, written out in full: completing a word starts no process.
import type { Command } from 'commander';

interface Word {
  readonly text: string;
  readonly help: string;
}

/** One place on the command line, e.g. `index create`, and the words that may follow it. */
interface Place {
  readonly verbs: string;
  readonly subcommands: readonly Word[];
  readonly options: readonly Word[];
}

export const shells = { bash, zsh, fish };

export function completionScript(shell: keyof typeof shells, program: Command): string {
  return shells[shell](placesOf(program, '', []));
}

function placesOf(command: Command, verbs: string, inherited: readonly Word[]): Place[] {
  const own = command.options
    .filter((option) => !option.hidden && option.long)
    .map((option) => ({ text: option.long ?? '', help: option.description }));
  const options = [...own, { text: '--help', help: 'display help for command' }, ...inherited];
  const subcommands = command.commands.map((sub) => ({ text: sub.name(), help: sub.description() }));
  // `--version` answers for the program and means nothing behind a verb.
  const passedOn = verbs === '' ? own.filter(({ text }) => text !== '--version') : inherited;
  const below = command.commands.flatMap((sub) => placesOf(sub, `${verbs} ${sub.name()}`.trim(), passedOn));
  return [{ verbs, subcommands, options }, ...below];
}

function bash(places: readonly Place[]): string {
  const cases = places.map(({ verbs, subcommands, options }) => {
    const words = [...subcommands, ...options].map(({ text }) => text).join(' ');
    return `    '${verbs}') words='${words}' ;;`;
  });
  return `# bash completion for peel
_peel() {
  local cur=\${COMP_WORDS[COMP_CWORD]} verbs='' word words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case "$word" in -*) continue ;; esac
    case " ${groupPaths(places)} " in *" \${verbs:+$verbs/}$word "*) verbs=\${verbs:+$verbs/}$word ;; *) break ;; esac
  done
  case "\${verbs//\\// }" in
${cases.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  [ "\${#COMPREPLY[@]}" -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}
complete -o filenames -F _peel peel
`;
}

function zsh(places: readonly Place[]): string {
  const quoted = ({ text, help }: Word): string => `'${text}:${help.replaceAll("'", "'\\''")}'`;
  const cases = places.map(
    ({ verbs, subcommands, options }) =>
      `    '${verbs}') words_here=(${[...subcommands, ...options].map(quoted).join(' ')}) ;;`,
  );
  return `#compdef peel
_peel() {
  local verbs='' word words_here
  for word in \${words[2,CURRENT-1]}; do
    case "$word" in -*) continue ;; esac
    case " ${groupPaths(places)} " in *" \${verbs:+$verbs/}$word "*) verbs=\${verbs:+$verbs/}$word ;; *) break ;; esac
  done
  case "\${verbs//\\// }" in
${cases.join('\n')}
  esac
  _describe 'peel' words_here || _files
}
compdef _peel peel
`;
}

function fish(places: readonly Place[]): string {
  const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = places.flatMap(({ verbs, subcommands, options }) => {
    const names = verbs.split(' ').filter((verb) => verb !== '');
    const seen = names.map((verb) => `__fish_seen_subcommand_from ${verb}`);
    const others = subcommands.map(({ text }) => text).join(' ');
    const open = others === '' ? [] : [`not __fish_seen_subcommand_from ${others}`];
    const when = [...seen, ...open].join('; and ');
    const condition = when === '' ? '' : ` -n ${quoted(when)}`;
    return [
      ...subcommands.map(({ text, help }) => `complete -c peel -f${condition} -a ${text} -d ${quoted(help)}`),
      ...options.map(({ text, help }) => `complete -c peel${condition} -l ${text.slice(2)} -d ${quoted(help)}`),
    ];
  });
  return `# fish completion for peel\n${lines.join('\n')}\n`;
}

/** `ls index index/create …`: how the shells tell a verb from an argument. */
function groupPaths(places: readonly Place[]): string {
  return places
    .map(({ verbs }) => verbs.replaceAll(' ', '/'))
    .filter((path) => path !== '')
    .join(' ');
}
