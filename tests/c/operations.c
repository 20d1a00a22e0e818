/* A signature from C_SignInit to its end: section 5.11. Prints how many signatures were asked for. */
#include "host.h"

static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE ec, rsa;
static unsigned char message[] = "to be signed", signature[256];
static unsigned asked;

static CK_RV sign(CK_ULONG length, CK_ULONG *room)
{
    return p11->C_Sign(session, message, length, signature, room);
}

static void has_ended(void)
{
    CK_ULONG room = sizeof signature;
    IS(CKR_OPERATION_NOT_INITIALIZED, sign(4, &room));
}

static void a_length_is_asked_for_without_ending_anything(void)
{
    CK_ULONG room = 0;
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, ec));
    IS(CKR_OK, p11->C_Sign(session, message, 4, NULL, &room));
    HOLDS(room == 64);
    room = 63;
    IS(CKR_BUFFER_TOO_SMALL, sign(4, &room));
    HOLDS(room == 64);
    IS(CKR_OPERATION_ACTIVE, begin(session, CKM_ECDSA_SHA256, ec));
    room = sizeof signature;
    IS(CKR_OK, sign(4, &room));
    asked++;
    HOLDS(room == 64);
    has_ended();
}

static void parts_are_what_the_whole_is(void)
{
    CK_ULONG room = sizeof signature;
    unsigned char whole[256];
    IS(CKR_OK, begin(session, CKM_SHA256_RSA_PKCS, rsa));
    IS(CKR_OK, sign(sizeof message, &room));
    memcpy(whole, signature, sizeof whole);
    IS(CKR_OK, begin(session, CKM_SHA256_RSA_PKCS, rsa));
    for (size_t i = 0; i < sizeof message; i++)
        IS(CKR_OK, p11->C_SignUpdate(session, message + i, 1));
    IS(CKR_OK, p11->C_SignUpdate(session, NULL, 0));
    room = 0;
    IS(CKR_OK, p11->C_SignFinal(session, NULL, &room));
    HOLDS(room == 256);
    room = 255;
    IS(CKR_BUFFER_TOO_SMALL, p11->C_SignFinal(session, signature, &room));
    memset(signature, 0, sizeof signature);
    IS(CKR_OK, p11->C_SignFinal(session, signature, &room));
    asked += 2;
    HOLDS(memcmp(whole, signature, sizeof whole) == 0);
    IS(CKR_OPERATION_NOT_INITIALIZED, p11->C_SignFinal(session, signature, &room));
    /* No part at all is the empty message. */
    IS(CKR_OK, begin(session, CKM_SHA256_RSA_PKCS, rsa));
    IS(CKR_OK, p11->C_SignFinal(session, signature, &room));
    asked++;
}

static void what_does_not_hash_has_no_parts(void)
{
    CK_ULONG room = sizeof signature;
    IS(CKR_OK, begin(session, CKM_ECDSA, ec));
    IS(CKR_OPERATION_NOT_INITIALIZED, p11->C_SignUpdate(session, message, 4));
    has_ended();
    IS(CKR_OK, begin(session, CKM_ECDSA, ec));
    IS(CKR_OPERATION_NOT_INITIALIZED, p11->C_SignFinal(session, signature, &room));
    has_ended();
    /* And what was begun in parts does not end as one. */
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, ec));
    IS(CKR_OK, p11->C_SignUpdate(session, message, 4));
    IS(CKR_OPERATION_NOT_INITIALIZED, sign(4, &room));
    IS(CKR_OPERATION_NOT_INITIALIZED, p11->C_SignFinal(session, signature, &room));
}

static void a_mechanism_fits_its_key_and_its_parameters(void)
{
    CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA256, CKG_MGF1_SHA256, 32};
    CK_MECHANISM none = {CKM_SHA256_RSA_PKCS_PSS, NULL, 0};
    CK_MECHANISM nowhere = {CKM_SHA256_RSA_PKCS_PSS, NULL, sizeof pss};
    CK_MECHANISM short_ = {CKM_SHA256_RSA_PKCS_PSS, &pss, sizeof pss - 1};
    CK_MECHANISM other = {CKM_SHA384_RSA_PKCS_PSS, &pss, sizeof pss};
    CK_MECHANISM needless = {CKM_SHA256_RSA_PKCS, &pss, sizeof pss};
    CK_MECHANISM good = {CKM_SHA256_RSA_PKCS_PSS, &pss, sizeof pss};
    CK_ULONG room = sizeof signature;
    IS(CKR_KEY_TYPE_INCONSISTENT, begin(session, CKM_SHA256_RSA_PKCS, ec));
    IS(CKR_KEY_TYPE_INCONSISTENT, begin(session, CKM_ECDSA, rsa));
    IS(CKR_KEY_TYPE_INCONSISTENT, begin(session, CKM_EDDSA, ec));
    IS(CKR_MECHANISM_PARAM_INVALID, p11->C_SignInit(session, &none, rsa));
    IS(CKR_MECHANISM_PARAM_INVALID, p11->C_SignInit(session, &nowhere, rsa));
    IS(CKR_MECHANISM_PARAM_INVALID, p11->C_SignInit(session, &short_, rsa));
    IS(CKR_MECHANISM_PARAM_INVALID, p11->C_SignInit(session, &other, rsa));
    IS(CKR_MECHANISM_PARAM_INVALID, p11->C_SignInit(session, &needless, rsa));
    has_ended();
    IS(CKR_OK, p11->C_SignInit(session, &good, rsa));
    IS(CKR_OK, sign(sizeof message, &room));
    asked++;
}

static void too_much_is_refused_before_it_is_sent(void)
{
    CK_ULONG room = sizeof signature, megabyte = 1 << 20;
    unsigned char *much = calloc(1, megabyte + 1);
    IS(CKR_OK, begin(session, CKM_RSA_PKCS, rsa));
    IS(CKR_DATA_LEN_RANGE, p11->C_Sign(session, much, 246, signature, &room));
    has_ended();
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, ec));
    IS(CKR_DATA_LEN_RANGE, p11->C_Sign(session, much, megabyte + 1, signature, &room));
    has_ended();
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, ec));
    IS(CKR_OK, p11->C_SignUpdate(session, much, megabyte));
    IS(CKR_DATA_LEN_RANGE, p11->C_SignUpdate(session, much, 1));
    has_ended();
    /* As much as is taken is sent, and comes back signed. */
    IS(CKR_OK, begin(session, CKM_ECDSA_SHA256, ec));
    IS(CKR_OK, p11->C_Sign(session, much, megabyte, signature, &room));
    asked++;
    free(much);
}

static void the_vaults_refusal_ends_it(void)
{
    CK_ULONG room = sizeof signature;
    /* ECDSA on P-256 signs what has 32 bytes here: the vault's side says so. */
    IS(CKR_OK, begin(session, CKM_ECDSA, ec));
    IS(CKR_DATA_LEN_RANGE, sign(5, &room));
    asked++;
    has_ended();
}

void operations(void)
{
    IS(CKR_OK, initialize());
    session = open_session();
    ec = find(session, CKO_PRIVATE_KEY, WITH_EC);
    rsa = find(session, CKO_PRIVATE_KEY, WITH_RSA);
    has_ended();
    a_length_is_asked_for_without_ending_anything();
    parts_are_what_the_whole_is();
    what_does_not_hash_has_no_parts();
    a_mechanism_fits_its_key_and_its_parameters();
    too_much_is_refused_before_it_is_sent();
    the_vaults_refusal_ends_it();
    IS(CKR_OK, p11->C_Finalize(NULL));
    printf("%u\n", asked);
}
