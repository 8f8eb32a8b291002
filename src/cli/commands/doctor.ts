import type { Command } from 'commander';
import { readEnvironment } from '../../config/environment.ts';
import { preparePaths } from '../../config/paths.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { runChecks } from '../doctor/checks.ts';
import { CommandError } from '../errors.ts';

const marks = { ok: 'ok', note: 'note', broken: 'MEND' };

export function define(command: Command, context: CliContext): void {
  command
    .description('Checks what mounting needs. Exit code 1 when something must be mended before this user can mount.')
    .action(async () => {
      const uid = process.getuid?.() ?? 0;
      const paths = await preparePaths({ root: context.options.root, environment: readEnvironment(), uid });
      const findings = await runChecks({ ...paths, uid });
      if (context.options.json) await context.output.value(findings);
      else {
        const columns = [{ title: 'WHAT' }, { title: '' }, { title: 'FOUND' }];
        await context.output.table(
          columns,
          findings.map(({ what, state, found, todo }) => [
            what,
            marks[state],
            todo === undefined ? found : `${found}: ${todo}`,
          ]),
        );
      }
      const broken = findings.filter(({ state }) => state === 'broken');
      if (broken.length > 0) throw new CommandError(`to be mended: ${broken.map(({ what }) => what).join(', ')}`);
    });
  example(command, 'peel doctor');
}
