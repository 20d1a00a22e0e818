/* What goes on while the agent restarts, has other keys, or takes its time. */
#include "host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

/* Sixteen threads that sign; no signature may fail, whatever becomes of the agent meanwhile. Prints a
 * line when all have signed once, and goes on until its stdin ends. */
enum { THREADS = 16 };

static atomic_bool done;
static atomic_uint begun, signatures;

static void stdin_ends(void)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
}

static void *sign_until_done(void *number)
{
    CK_SESSION_HANDLE session = open_session();
    for (unsigned i = 0; !done; i++) {
        sign_and_verify(session, (size_t)number % 2 ? WITH_EC : WITH_RSA, i);
        signatures++;
        if (i == 0 && ++begun == THREADS) {
            puts("signing");
            fflush(stdout);
        }
    }
    sign_and_verify(session, WITH_EC, 0);
    IS(CKR_OK, p11->C_CloseSession(session));
    return NULL;
}

void threads(void)
{
    pthread_t all[THREADS];
    IS(CKR_OK, initialize());
    for (size_t i = 0; i < THREADS; i++)
        HOLDS(pthread_create(&all[i], NULL, sign_until_done, (void *)i) == 0);
    stdin_ends();
    done = true;
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(all[i], NULL);
    IS(CKR_OK, p11->C_Finalize(NULL));
    printf("%u signatures\n", signatures);
}

static void *sign_once(void *nothing)
{
    sign_and_verify(open_session(), WITH_EC, 0);
    return nothing;
}

/* The certificate is renewed with a new key when stdin ends: the next search finds it, the old handles
 * mean nothing any more, and a certificate that was not renewed has the handles it had. */
void renewal(void)
{
    IS(CKR_OK, initialize());
    CK_SESSION_HANDLE session = open_session();
    CK_OBJECT_HANDLE old = find(session, CKO_PRIVATE_KEY, WITH_EC);
    CK_OBJECT_HANDLE other = find(session, CKO_PRIVATE_KEY, WITH_RSA);
    HOLDS(find(session, CKO_PRIVATE_KEY, WITH_EC) == old);
    puts("found");
    fflush(stdout);
    stdin_ends();
    HOLDS(find(session, CKO_PRIVATE_KEY, WITH_EC) != old);
    HOLDS(find(session, CKO_PRIVATE_KEY, WITH_RSA) == other);
    IS(CKR_OBJECT_HANDLE_INVALID, p11->C_GetAttributeValue(session, old, NULL, 0));
    IS(CKR_KEY_HANDLE_INVALID, begin(session, CKM_ECDSA_SHA256, old));
    sign_and_verify(session, WITH_EC, 0);
    sign_and_verify(session, WITH_RSA, 0);
    IS(CKR_OK, p11->C_Finalize(NULL));
}

/* One thread's signature is awaited, until stdin ends and long after; all else is done meanwhile. */
void waiting(void)
{
    pthread_t thread;
    unsigned char label[8];
    CK_ULONG length = 0;
    CK_SESSION_INFO info;
    IS(CKR_OK, initialize());
    CK_SESSION_HANDLE session = open_session();
    HOLDS(pthread_create(&thread, NULL, sign_once, NULL) == 0);
    stdin_ends();
    CK_OBJECT_HANDLE key = find(session, CKO_PRIVATE_KEY, WITH_RSA);
    CK_ATTRIBUTE attribute = {CKA_LABEL, label, sizeof label};
    IS(CKR_OK, p11->C_GetAttributeValue(session, key, &attribute, 1));
    IS(CKR_OK, begin(session, CKM_SHA256_RSA_PKCS, key));
    IS(CKR_OK, p11->C_SignFinal(session, NULL, &length));
    IS(CKR_OK, p11->C_GetSessionInfo(session, &info));
    IS(CKR_OK, p11->C_CloseSession(session));
    IS(CKR_OK, p11->C_Finalize(NULL));
    puts("all else is done");
    fflush(stdout);
    _exit(0);
}
