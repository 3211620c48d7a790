/* A plugin of qemu-user 7.2 that counts the instructions a program executes inside windows.
 *
 * The program opens and closes a window by the system call sched_get_priority_max(MARK), which fails
 * and changes nothing. At each close one line `window N INSTRUCTIONS` is written, at exit `total
 * INSTRUCTIONS` with all instructions of the program. One thread only.
 *
 * Build: gcc -shared -fPIC -O2 -o plugin.so plugin.c (the few declarations needed are below).
 * Use: qemu-aarch64 (or qemu-x86_64) -plugin plugin.so -d plugin -D OUTPUT PROGRAM
 * Source: "QEMU TCG Plugins", qemu 7.2's docs/devel/tcg-plugins.rst and include/qemu/qemu-plugin.h.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0x51500000u
#define INLINE_ADD_U64 0

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_info {
    const char *target_name; /* more members follow */
};
typedef void on_translation(plugin_id, struct qemu_plugin_tb *);
typedef void on_syscall(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t, uint64_t);
typedef void on_exit_of_program(plugin_id, void *);
void qemu_plugin_outs(const char *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_translation *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_syscall *);
void qemu_plugin_register_atexit_cb(plugin_id, on_exit_of_program *, void *);

EXPORT int qemu_plugin_version = 1;

static uint64_t executed, opened_at;
static unsigned windows;
static int open;
static int64_t sched_get_priority_max; /* the system call's number */

static void write_line(const char *what, uint64_t count)
{
    char line[64];
    snprintf(line, sizeof line, "%s %" PRIu64 "\n", what, count);
    qemu_plugin_outs(line);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t policy, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    if (number != sched_get_priority_max || (uint32_t)policy != MARK)
        return;
    if (open) {
        char what[32];
        snprintf(what, sizeof what, "window %u", windows++);
        write_line(what, executed - opened_at);
    }
    opened_at = executed;
    open = !open;
}

static void ended(plugin_id id, void *data)
{
    write_line("total", executed);
}

EXPORT int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv)
{
    sched_get_priority_max = strcmp(info->target_name, "x86_64") ? 125 : 146;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
