/* A host that ends the module and begins it again, and unloads and loads it: nothing of the life
 * before is left, and no descriptor. */
#include "host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int beginners;

static void *begin_life(void *barrier)
{
    pthread_barrier_wait(barrier);
    CK_RV rv = initialize();
    HOLDS(rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED);
    beginners += rv == CKR_OK;
    return NULL;
}

/* Of eight threads that begin it at once, one does. */
static void begin_at_once(void)
{
    pthread_barrier_t barrier;
    pthread_t threads[8];
    pthread_barrier_init(&barrier, NULL, 8);
    beginners = 0;
    for (int i = 0; i < 8; i++)
        HOLDS(pthread_create(&threads[i], NULL, begin_life, &barrier) == 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    HOLDS(beginners == 1);
    IS(CKR_OK, p11->C_Finalize(NULL));
}

static void a_life(void)
{
    IS(CKR_OK, initialize());
    CK_SESSION_HANDLE session = open_session(), other = open_session();
    CK_SESSION_INFO info;
    sign_and_verify(session, WITH_EC, 0);
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, find(session, CKO_PRIVATE_KEY, WITH_EC)));
    IS(CKR_OK, p11->C_FindObjectsInit(other, NULL, 0));
    IS(CKR_OK, p11->C_Login(session, CKU_USER, NULL, 0));
    IS(CKR_OK, p11->C_Finalize(NULL));
    IS(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetSessionInfo(session, &info));
    IS(CKR_OK, initialize());
    IS(CKR_SESSION_HANDLE_INVALID, p11->C_GetSessionInfo(session, &info));
    CK_SESSION_HANDLE new = open_session();
    HOLDS(new != session && new != other);
    IS(CKR_OK, p11->C_GetSessionInfo(new, &info));
    HOLDS(info.state == CKS_RO_PUBLIC_SESSION);
    sign_and_verify(new, WITH_RSA, 1);
    IS(CKR_OK, p11->C_Finalize(NULL));
}

void reload(const char *path)
{
    load(path);
    begin_at_once();
    a_life();
    begin_at_once();
    unload();
    int before = descriptors();
    for (int i = 0; i < 8; i++) {
        load(path);
        for (int j = 0; j < 8; j++)
            a_life();
        unload();
        /* Nothing of it is called by a fork when it is gone. */
        pid_t pid = fork();
        HOLDS(pid >= 0);
        if (pid == 0)
            _exit(0);
        int status;
        HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
    }
    HOLDS(descriptors() == before);
}
