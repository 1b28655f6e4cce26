// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <io/settings.h>
#include <string.h>

static void bounds_print(const struct tally_setting *setting, FILE *out)
{
    switch (setting->type) {
    case TALLY_SETTING_TYPE_NUMBER:
        (void)fprintf(out, "%" PRIu64 " to %" PRIu64 " %s", setting->min, setting->max, setting->unit);
        break;
    case TALLY_SETTING_TYPE_LIST: (void)fprintf(out, "%s, to %" PRIu64 " times", setting->unit, setting->max); break;
    default: (void)fprintf(out, "%s", setting->unit); break;
    }
}

void tally_settings_help(const struct tally_settings_spec *spec, FILE *out)
{
    (void)fprintf(out, "%s: %s\n\nusage: %s [--setting value]...\n\n", spec->program, spec->summary, spec->program);
    (void)fprintf(out,
                  "  --config FILE\n      YAML file with settings of the names below; a flag wins over the file.\n");
    for (size_t i = 0; i < spec->table_count; i++) {
        const struct tally_setting *setting = &spec->table[i];
        const char *unit = setting->type == TALLY_SETTING_TYPE_NUMBER ? "N" : setting->unit;
        (void)fprintf(out, "  --%s %s\n      %s (", setting->name, unit, setting->help);
        if (setting->type == TALLY_SETTING_TYPE_NUMBER || setting->type == TALLY_SETTING_TYPE_LIST) {
            bounds_print(setting, out);
            (void)fprintf(out, "; ");
        }
        if (setting->value_default)
            (void)fprintf(out, "default %s)\n", setting->value_default);
        else
            (void)fprintf(out, "no default)\n");
    }
    (void)fprintf(out, "  --example-config\n      Print a configuration file with every setting, its default "
                       "and range, and exit.\n");
    (void)fprintf(out, "  --help, --version\n      Print this, or the version, and exit.\n\nexample:\n  %s\n",
                  spec->example);
}

void tally_settings_example(const struct tally_settings_spec *spec, FILE *out)
{
    (void)fprintf(out,
                  "# %s: every setting with its default and range. Take away a # to set one; the flag --NAME wins over "
                  "this file.\n",
                  spec->program);
    for (size_t i = 0; i < spec->table_count; i++) {
        const struct tally_setting *setting = &spec->table[i];
        (void)fprintf(out, "\n# %s\n# ", setting->help);
        bounds_print(setting, out);
        if (setting->value_default)
            (void)fprintf(out, "\n#%s: %s\n", setting->name, setting->value_default);
        else
            (void)fprintf(out, "; no default\n#%s:\n", setting->name);
    }
}

int tally_settings_finish(const struct tally_settings_spec *spec, enum tally_settings_outcome outcome,
                          const struct tally_reason *reason)
{
    switch (outcome) {
    case TALLY_SETTINGS_HELP: tally_settings_help(spec, stdout); return 0;
    case TALLY_SETTINGS_VERSION: (void)printf("%s %s\n", spec->program, spec->version); return 0;
    case TALLY_SETTINGS_EXAMPLE: tally_settings_example(spec, stdout); return 0;
    default: (void)fprintf(stderr, "%s: %s\n", spec->program, reason->text); return 2;
    }
}
