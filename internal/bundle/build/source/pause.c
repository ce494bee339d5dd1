/* The pause program holds the namespaces of a pod and reaps processes that others left behind. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "unknown"
#endif

static void reap(int sig) {
	(void)sig;
	while (waitpid(-1, NULL, WNOHANG) > 0) {
	}
}

static void stop(int sig) {
	(void)sig;
	_exit(0);
}

int main(int argc, char **argv) {
	struct sigaction act;

	if (argc > 1 && strcmp(argv[1], "-v") == 0) {
		return puts("pause " VERSION) < 0;
	}
	memset(&act, 0, sizeof act);
	act.sa_handler = stop;
	if (sigaction(SIGINT, &act, NULL) < 0 || sigaction(SIGTERM, &act, NULL) < 0) {
		return 1;
	}
	act.sa_handler = reap;
	act.sa_flags = SA_NOCLDSTOP;
	if (sigaction(SIGCHLD, &act, NULL) < 0) {
		return 2;
	}
	/* Children may have ended before the handler was there. */
	reap(SIGCHLD);
	for (;;) {
		pause();
	}
}
