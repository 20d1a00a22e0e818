/* A host that forks while its threads sign, and kills its children. */
#include "host.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, CHILDREN = 4, SIGNATURES = 5 };

static atomic_bool done;
static CK_BYTE reference[256];

/* RSA by PKCS #1 signs the same each time. OpenSSL is not asked here: its own locks would not outlive
 * a fork that happens while another thread holds one. */
static void sign_by_rsa(CK_SESSION_HANDLE session, CK_BYTE signature[256])
{
    CK_ULONG length = 256;
    CK_OBJECT_HANDLE key = find(session, CKO_PRIVATE_KEY, WITH_RSA);
    IS(CKR_OK, begin(session, CKM_SHA256_RSA_PKCS, key));
    IS(CKR_OK, p11->C_Sign(session, (CK_BYTE *)"message", 7, signature, &length));
}

static void *sign_all_the_time(void *nothing)
{
    CK_SESSION_HANDLE session = open_session();
    CK_BYTE signature[256];
    while (!done) {
        sign_by_rsa(session, signature);
        HOLDS(memcmp(signature, reference, sizeof signature) == 0);
    }
    return nothing;
}

/* A process is told that its parent's life is not its own, and begins anew. */
static CK_SESSION_HANDLE begin_anew(void)
{
    CK_ULONG count;
    IS(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetSlotList(CK_TRUE, NULL, &count));
    IS(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_Finalize(NULL));
    IS(CKR_OK, initialize());
    IS(CKR_CRYPTOKI_ALREADY_INITIALIZED, initialize());
    return open_session();
}

static void ends_well(pid_t pid)
{
    int status;
    HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
}

static void child(void)
{
    CK_SESSION_HANDLE session = begin_anew();
    for (unsigned i = 0; i < SIGNATURES; i++)
        sign_and_verify(session, WITH_EC, i);
    pid_t grandchild = fork();
    HOLDS(grandchild >= 0);
    if (grandchild == 0) {
        sign_and_verify(begin_anew(), WITH_RSA, 0);
        _exit(0);
    }
    ends_well(grandchild);
    sign_and_verify(session, WITH_RSA, 0);
    IS(CKR_OK, p11->C_Finalize(NULL));
    _exit(0);
}

static void sign_until_killed(void)
{
    CK_SESSION_HANDLE session = begin_anew();
    for (unsigned i = 0;; i++)
        sign_and_verify(session, WITH_RSA, i);
}

static pid_t spawn(void (*body)(void))
{
    pid_t pid = fork();
    HOLDS(pid >= 0);
    if (pid == 0) {
        /* Where a check ends the parent, nobody is left behind. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body();
    }
    return pid;
}

/* It has its parent's idle connection until it begins anew, and then one of its own. */
static void inherit(void)
{
    int inherited = descriptors();
    CK_SESSION_HANDLE session = begin_anew();
    HOLDS(descriptors() == inherited - 1);
    sign_and_verify(session, WITH_EC, 0);
    HOLDS(descriptors() == inherited);
    _exit(0);
}

void forks(void)
{
    pthread_t threads[THREADS];
    /* Fewer where valgrind makes each of them slow. */
    const char *told = getenv("ROUNDS");
    int rounds = told ? atoi(told) : 24;
    IS(CKR_OK, initialize());
    sign_by_rsa(open_session(), reference);
    ends_well(spawn(inherit));
    for (size_t i = 0; i < THREADS; i++)
        HOLDS(pthread_create(&threads[i], NULL, sign_all_the_time, NULL) == 0);
    for (int round = 0; round < rounds; round++) {
        pid_t doomed = spawn(sign_until_killed), pids[CHILDREN];
        for (int i = 0; i < CHILDREN; i++)
            pids[i] = spawn(child);
        for (int i = 0; i < CHILDREN; i++)
            ends_well(pids[i]);
        kill(doomed, SIGKILL);
        int status;
        HOLDS(waitpid(doomed, &status, 0) == doomed && WIFSIGNALED(status));
    }
    done = true;
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    IS(CKR_OK, p11->C_Finalize(NULL));
}

/* As nginx and Apache start: the module is used, then the process forks, its parent ends, its
 * environment is cleared, its descriptors are closed and others opened under their numbers. */
void daemonised(void)
{
    IS(CKR_OK, initialize());
    CK_SESSION_HANDLE session = open_session();
    sign_and_verify(session, WITH_EC, 0);
    int before = descriptors();
    pid_t pid = fork();
    HOLDS(pid >= 0);
    if (pid > 0) {
        ends_well(pid);
        sign_and_verify(session, WITH_EC, 1);
        return;
    }
    clearenv();
    for (int i = 3; i < 64; i++)
        close(i);
    int ours[2][2];
    for (int i = 0; i < 2; i++)
        HOLDS(pipe(ours[i]) == 0);
    IS(CKR_OK, initialize());
    session = open_session();
    sign_and_verify(session, WITH_EC, 2);
    /* The host's own are still open and still the host's. */
    for (int i = 0; i < 2; i++) {
        char byte = 0;
        HOLDS(write(ours[i][1], "x", 1) == 1 && read(ours[i][0], &byte, 1) == 1 && byte == 'x');
        HOLDS(fcntl(ours[i][0], F_SETFL, O_NONBLOCK) == 0 && read(ours[i][0], &byte, 1) == -1);
    }
    HOLDS(descriptors() <= before + 4);
    _exit(0);
}
