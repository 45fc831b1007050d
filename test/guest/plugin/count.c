// A QEMU plugin that counts the instructions of a guest with one processor. It answers each byte that it reads from the
// socket fd=N with three 64-bit numbers in the byte order of the machine: instructions in the kernel, instructions in user
// space, and bytes moved by further iterations of string instructions with a REP prefix. With -icount, QEMU executes each
// iteration as a block of its own. Such a block is no instruction here: a processor moves up to 64 bytes in a cycle.
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Declared here, because Debian does not package qemu-plugin.h.
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;
typedef struct {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
} qemu_plugin_u64;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *, enum qemu_plugin_op, qemu_plugin_u64, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
extern struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
extern uint64_t qemu_plugin_u64_sum(qemu_plugin_u64);

__attribute__((visibility("default"))) int qemu_plugin_version = 4; // of QEMU 10

enum { KERNEL, USER, REPEATED, COUNTERS };
static struct qemu_plugin_scoreboard *scoreboard;
static int fd = -1;

static qemu_plugin_u64 counter(int i) { return (qemu_plugin_u64){scoreboard, i * sizeof(uint64_t)}; }

// repeats returns how many bytes an iteration of the instruction moves, or 0 if it is no string instruction with a prefix.
static int repeats(const struct qemu_plugin_insn *insn) {
	uint8_t b[16];
	size_t n = qemu_plugin_insn_data(insn, b, sizeof b), i = 0;
	int rep = 0, size = 4;
	for (; i < n && (b[i] == 0xf2 || b[i] == 0xf3 || b[i] == 0x66 || b[i] == 0x67); i++) {
		rep |= b[i] == 0xf2 || b[i] == 0xf3;
		if (b[i] == 0x66)
			size = 2;
	}
	if (i < n && (b[i] & 0xf0) == 0x40 && b[i++] & 8) // REX.W
		size = 8;
	// MOVS, CMPS, STOS, LODS, SCAS; an even operation code is that of bytes.
	if (i >= n || !rep || !((b[i] >= 0xa4 && b[i] <= 0xa7) || (b[i] >= 0xaa && b[i] <= 0xaf)))
		return 0;
	return b[i] & 1 ? size : 1;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
	int which = (int64_t)qemu_plugin_tb_vaddr(tb) < 0 ? KERNEL : USER;
	uint64_t add = qemu_plugin_tb_n_insns(tb);
	int bytes = repeats(qemu_plugin_tb_get_insn(tb, 0));
	if (bytes) {
		which = REPEATED;
		add = bytes;
	}
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64, counter(which), add);
}

static void *answer(void *unused) {
	char asked;
	ssize_t n;
	while ((n = read(fd, &asked, 1)) == 1 || (n < 0 && errno == EINTR)) {
		if (n < 0)
			continue; // a signal to QEMU
		uint64_t values[COUNTERS];
		for (int i = 0; i < COUNTERS; i++)
			values[i] = qemu_plugin_u64_sum(counter(i));
		if (write(fd, values, sizeof values) != sizeof values)
			break;
	}
	return NULL;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
	pthread_t thread;
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "fd=", 3))
			fd = atoi(argv[i] + 3);
	scoreboard = qemu_plugin_scoreboard_new(COUNTERS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return fd < 0 || pthread_create(&thread, NULL, answer, NULL);
}
