/* SPDX-License-Identifier: MIT
 *
 * What the tree's own kconfig knows of some options. Linked against the objects of scripts/kconfig that
 * `make olddefconfig` has just built; uses only names that 6.1 and 6.12 share (both measured); most are far older.
 *
 *   kconfig_explain KCONFIG CONFIG < names
 *
 * stdout:  every name of the tree, one a line; "@choice MEMBER=value ... | prompt" for each choice;
 *          then for each name of stdin "@symbol NAME" and the text that menuconfig shows for it on "/" or "?".
 */
#include <stdio.h>
#include <string.h>
#include "lkc.h"

static void walk(struct menu *menu)
{
	struct menu *member;

	for (; menu; menu = menu->next) {
		if (menu->sym && menu->sym->name)
			printf("%s\n", menu->sym->name);
		if (menu->sym && sym_is_choice(menu->sym)) {
			printf("@choice");
			for (member = menu->list; member; member = member->next)
				if (member->sym && member->sym->name)
					printf(" %s=%s", member->sym->name, sym_get_string_value(member->sym));
			printf(" | %s\n", menu_get_prompt(menu));
		}
		walk(menu->list);
	}
}

int main(int argc, char **argv)
{
	char name[256];

	if (argc != 3)
		return 2;
	conf_parse(argv[1]);
	if (conf_read(argv[2]))
		return 3;
	walk(&rootmenu);
	while (fgets(name, sizeof(name), stdin)) {
		struct symbol *found[2] = { NULL, NULL };

		name[strcspn(name, "\n")] = '\0';
		printf("@symbol %s\n", name);
		found[0] = sym_find(name);
		if (found[0]) {
			struct gstr text = get_relations_str(found, NULL);

			fputs(str_get(&text), stdout);
			str_free(&text);
		}
	}
	return 0;
}
