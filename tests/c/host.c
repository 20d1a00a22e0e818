/* The host: what all scenarios do, and main. */
#include "host.h"

#include <dirent.h>
#include <dlfcn.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <unistd.h>

CK_FUNCTION_LIST *p11;
static void *library;

void is_(CK_RV expected, CK_RV got, const char *call, const char *file, int line)
{
    if (expected == got)
        return;
    fprintf(stderr, "%s:%d: %s\n  is 0x%lx and should be 0x%lx\n", file, line, call, got, expected);
    _exit(1);
}

void fails_(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: it does not hold that %s\n", file, line, what);
    _exit(1);
}

void load(const char *path)
{
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fails_(dlerror(), path, 0);
    CK_RV (*list)(CK_FUNCTION_LIST **);
    *(void **)&list = dlsym(library, "C_GetFunctionList");
    HOLDS(list);
    IS(CKR_ARGUMENTS_BAD, list(NULL));
    IS(CKR_OK, list(&p11));
}

void unload(void)
{
    p11 = NULL;
    HOLDS(dlclose(library) == 0);
}

CK_RV initialize(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    return p11->C_Initialize(&args);
}

CK_SESSION_HANDLE open_session(void)
{
    CK_SLOT_ID slot;
    CK_ULONG count = 1;
    CK_SESSION_HANDLE session;
    IS(CKR_OK, p11->C_GetSlotList(CK_TRUE, &slot, &count));
    IS(CKR_OK, p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session));
    return session;
}

CK_OBJECT_HANDLE find(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label)
{
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_LABEL, (void *)label, strlen(label)},
    };
    CK_OBJECT_HANDLE found[2];
    CK_ULONG count;
    IS(CKR_OK, p11->C_FindObjectsInit(session, template, 2));
    IS(CKR_OK, p11->C_FindObjects(session, found, 2, &count));
    IS(CKR_OK, p11->C_FindObjectsFinal(session));
    HOLDS(count == 1);
    return found[0];
}

CK_RV begin(CK_SESSION_HANDLE session, CK_MECHANISM_TYPE type, CK_OBJECT_HANDLE key)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    return p11->C_SignInit(session, &mechanism, key);
}

/* r and s, as X.509 and OpenSSL have them. */
static int to_der(unsigned char *signature, size_t length, unsigned char **der)
{
    ECDSA_SIG *parts = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, length / 2, NULL);
    BIGNUM *s = BN_bin2bn(signature + length / 2, length / 2, NULL);
    HOLDS(ECDSA_SIG_set0(parts, r, s) == 1);
    int count = i2d_ECDSA_SIG(parts, der);
    ECDSA_SIG_free(parts);
    return count;
}

void sign_and_verify(CK_SESSION_HANDLE session, const char *label, unsigned number)
{
    bool ec = strcmp(label, WITH_EC) == 0;
    CK_OBJECT_HANDLE key = find(session, CKO_PRIVATE_KEY, label);
    unsigned char info[1024], signature[1024], *der = NULL;
    char message[64];
    CK_ATTRIBUTE public = {CKA_PUBLIC_KEY_INFO, info, sizeof info};
    CK_ULONG length = sizeof signature;
    int count = snprintf(message, sizeof message, "message %u of process %d", number, getpid());

    IS(CKR_OK, p11->C_GetAttributeValue(session, key, &public, 1));
    IS(CKR_OK, begin(session, ec ? CKM_ECDSA_SHA256 : CKM_SHA256_RSA_PKCS, key));
    IS(CKR_OK, p11->C_Sign(session, (unsigned char *)message, count, signature, &length));

    const unsigned char *at = info;
    EVP_PKEY *verifier = d2i_PUBKEY(NULL, &at, public.ulValueLen);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    HOLDS(verifier && context);
    int der_length = ec ? to_der(signature, length, &der) : (int)length;
    HOLDS(EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, verifier) == 1);
    HOLDS(EVP_DigestVerify(context, ec ? der : signature, der_length, (unsigned char *)message, count) == 1);
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(verifier);
    OPENSSL_free(der);
}

int descriptors(void)
{
    int count = 0;
    DIR *all = opendir("/proc/self/fd");
    HOLDS(all);
    while (readdir(all))
        count++;
    closedir(all);
    return count;
}

int main(int argc, char **argv)
{
    HOLDS(argc == 3);
    const struct {
        const char *name;
        void (*run)(void);
    } scenarios[] = {
        {"arguments", arguments}, {"attributes", attributes}, {"operations", operations},
        {"forks", forks},         {"daemonised", daemonised}, {"threads", threads},
        {"waiting", waiting},     {"renewal", renewal},
    };
    if (strcmp(argv[2], "reload") == 0) {
        reload(argv[1]);
        return 0;
    }
    load(argv[1]);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(argv[2], scenarios[i].name) == 0) {
            scenarios[i].run();
            return 0;
        }
    }
    fails_(argv[2], "no scenario", 0);
}
