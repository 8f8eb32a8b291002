import type { Command } from 'commander';
import { configOverrides } from '../config-overrides.ts';
import { example } from '../command.ts';
import type { CliContext } from '../context.ts';
import { parseFile } from '../options.ts';

export function define(command: Command, context: CliContext): void {
  defineDefault(
    command.command('default').description('Print the commented sample: every key with its default.'),
    context,
  );
  defineCheck(command.command('check').description('Say what is wrong in a file, or what it changes.'), context);
  defineShow(
    command
      .command('show')
      .description('Print what the daemon would use: file, PEEL_* variables and options together.'),
    context,
  );
}

function defineDefault(command: Command, context: CliContext): void {
  command.action(async () => {
    const { readSampleConfig } = await import('../../config/sample-config.ts');
    const text = await readSampleConfig();
    if (!context.options.json) return await context.output.line(text.trimEnd());
    const { configSchema } = await import('../../config/schema.ts');
    await context.output.value(configSchema.parse({}));
  });
  example(command, 'peel config default > /etc/peel/config.toml');
}

function defineCheck(command: Command, context: CliContext): void {
  command.argument('[file]', 'default: /etc/peel/config.toml', parseFile).action(async (named: string | undefined) => {
    const { checkConfigFile } = await import('../../config/load-config.ts');
    const { changedKeys } = await import('../../config/config-text.ts');
    const { file, config } = await checkConfigFile(named);
    const changed = changedKeys(config);
    if (context.options.json) return await context.output.value({ file, changed });
    await context.output.line(`${file}: OK`);
    if (changed.length === 0) await context.output.line('  every key has its default');
    for (const { key, value, default: usual } of changed)
      await context.output.line(`  ${key} = ${value} (default: ${usual ?? 'not set'})`);
  });
  example(command, 'peel config check ./config.toml');
}

function defineShow(command: Command, context: CliContext): void {
  command
    .option('--config <file>', 'default: /etc/peel/config.toml', parseFile)
    .action(async ({ config: file }: { readonly config?: string }) => {
      const { loadConfig } = await import('../../config/load-config.ts');
      const { configToml } = await import('../../config/config-text.ts');
      const config = await loadConfig(file, configOverrides(command, context));
      if (context.options.json) await context.output.value(config);
      else await context.output.lines(configToml(config));
    });
  example(command, 'peel config show --config ./config.toml');
}
