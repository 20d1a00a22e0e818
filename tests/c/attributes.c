/* C_GetAttributeValue and the searches: section 5.7's rules. */
#include "host.h"

#define NO_LENGTH ((CK_ULONG)-1)

static void every_attribute_is_answered_whatever_becomes_of_one(CK_SESSION_HANDLE session)
{
    CK_OBJECT_HANDLE key = find(session, CKO_PRIVATE_KEY, WITH_RSA);
    unsigned char label[8], small[1], secret[512], unknown[8], bits[sizeof(CK_ULONG)];
    CK_ATTRIBUTE all[] = {
        {CKA_PRIVATE_EXPONENT, secret, sizeof secret}, {CKA_EC_POINT, unknown, sizeof unknown},
        {CKA_MODULUS, small, sizeof small},            {CKA_LABEL, label, sizeof label},
        {CKA_MODULUS, NULL, 4711},                     {CKA_MODULUS_BITS, bits, sizeof bits},
        {CKA_PRIME_1, NULL, 0},                        {0x80004711, NULL, 0},
    };
    memset(secret, 0xa5, sizeof secret);
    CK_RV rv = p11->C_GetAttributeValue(session, key, all, 8);
    HOLDS(rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_BUFFER_TOO_SMALL);
    HOLDS(all[0].ulValueLen == NO_LENGTH && all[1].ulValueLen == NO_LENGTH);
    HOLDS(all[2].ulValueLen == NO_LENGTH);
    HOLDS(all[3].ulValueLen == 3 && memcmp(label, WITH_RSA, 3) == 0);
    HOLDS(all[4].ulValueLen == 256);
    HOLDS(all[5].ulValueLen == sizeof(CK_ULONG) && *(CK_ULONG *)bits == 2048);
    HOLDS(all[6].ulValueLen == NO_LENGTH && all[7].ulValueLen == NO_LENGTH);
    for (size_t i = 0; i < sizeof secret; i++)
        HOLDS(secret[i] == 0xa5);
    IS(CKR_ATTRIBUTE_SENSITIVE, p11->C_GetAttributeValue(session, key, &all[0], 1));
    IS(CKR_ATTRIBUTE_TYPE_INVALID, p11->C_GetAttributeValue(session, key, &all[1], 1));
    all[2].ulValueLen = sizeof small;
    IS(CKR_BUFFER_TOO_SMALL, p11->C_GetAttributeValue(session, key, &all[2], 1));
    IS(CKR_OK, p11->C_GetAttributeValue(session, key, &all[3], 1));
    IS(CKR_OK, p11->C_GetAttributeValue(session, key, NULL, 0));
}

/* A template that no compiler would lay out so, and room of exactly the right size. */
static void nothing_needs_to_be_aligned_or_larger_than_it_is(CK_SESSION_HANDLE session)
{
    CK_OBJECT_HANDLE key = find(session, CKO_PRIVATE_KEY, WITH_EC);
    unsigned char *odd = malloc(sizeof(CK_ATTRIBUTE) + 1), *value = malloc(16);
    CK_ATTRIBUTE id = {CKA_ID, value, 16};
    memcpy(odd + 1, &id, sizeof id);
    IS(CKR_OK, p11->C_GetAttributeValue(session, key, (CK_ATTRIBUTE *)(odd + 1), 1));
    memcpy(&id, odd + 1, sizeof id);
    HOLDS(id.ulValueLen == 16);
    free(odd);
    free(value);
}

static void a_list_asks_for_its_length_first(void)
{
    CK_ULONG count = 0;
    CK_SLOT_ID slot = 4711;
    IS(CKR_OK, p11->C_GetSlotList(CK_FALSE, NULL, &count));
    HOLDS(count == 1);
    count = 0;
    IS(CKR_BUFFER_TOO_SMALL, p11->C_GetSlotList(CK_FALSE, &slot, &count));
    HOLDS(count == 1 && slot == 4711);
    IS(CKR_OK, p11->C_GetSlotList(CK_FALSE, &slot, &count));
    IS(CKR_OK, p11->C_GetMechanismList(slot, NULL, &count));
    CK_ULONG needed = count, room = count - 1;
    CK_MECHANISM_TYPE *list = calloc(needed, sizeof *list);
    IS(CKR_BUFFER_TOO_SMALL, p11->C_GetMechanismList(slot, list, &room));
    HOLDS(room == needed);
    IS(CKR_OK, p11->C_GetMechanismList(slot, list, &room));
    for (CK_ULONG i = 0; i < needed; i++) {
        CK_MECHANISM_INFO info;
        IS(CKR_OK, p11->C_GetMechanismInfo(slot, list[i], &info));
        HOLDS(info.flags & CKF_SIGN);
        HOLDS(!(info.flags & (CKF_VERIFY | CKF_DECRYPT | CKF_GENERATE_KEY_PAIR)));
    }
    free(list);
}

static void a_search_hands_out_each_object_once(CK_SESSION_HANDLE session)
{
    CK_OBJECT_HANDLE handles[16], more[16];
    CK_ULONG count, all = 0;
    IS(CKR_OPERATION_NOT_INITIALIZED, p11->C_FindObjects(session, handles, 1, &count));
    IS(CKR_OPERATION_NOT_INITIALIZED, p11->C_FindObjectsFinal(session));
    IS(CKR_OK, p11->C_FindObjectsInit(session, NULL, 0));
    IS(CKR_OPERATION_ACTIVE, p11->C_FindObjectsInit(session, NULL, 0));
    do {
        IS(CKR_OK, p11->C_FindObjects(session, handles + all, 1, &count));
        all += count;
    } while (count);
    IS(CKR_OK, p11->C_FindObjectsFinal(session));
    HOLDS(all == 6);
    for (CK_ULONG i = 0; i < all; i++)
        for (CK_ULONG j = 0; j < i; j++)
            HOLDS(handles[i] != handles[j]);
    IS(CKR_OK, p11->C_FindObjectsInit(session, NULL, 0));
    IS(CKR_OK, p11->C_FindObjects(session, more, ~0UL, &count));
    IS(CKR_OK, p11->C_FindObjectsFinal(session));
    HOLDS(count == all && memcmp(handles, more, all * sizeof *more) == 0);
    CK_ATTRIBUTE nobody = {CKA_LABEL, "nobody", 6};
    IS(CKR_OK, p11->C_FindObjectsInit(session, &nobody, 1));
    IS(CKR_OK, p11->C_FindObjects(session, handles, 16, &count));
    HOLDS(count == 0);
    IS(CKR_OK, p11->C_FindObjectsFinal(session));
}

static void the_token_is_what_it_says(void)
{
    CK_TOKEN_INFO info;
    IS(CKR_OK, p11->C_GetTokenInfo(1, &info));
    HOLDS(memcmp(info.label, "web1                            ", 32) == 0);
    HOLDS(info.flags == (CKF_TOKEN_INITIALIZED | CKF_WRITE_PROTECTED));
    HOLDS(info.ulSessionCount == 1 && info.ulRwSessionCount == 0);
}

void attributes(void)
{
    IS(CKR_OK, initialize());
    CK_SESSION_HANDLE session = open_session();
    the_token_is_what_it_says();
    every_attribute_is_answered_whatever_becomes_of_one(session);
    nothing_needs_to_be_aligned_or_larger_than_it_is(session);
    a_list_asks_for_its_length_first();
    a_search_hands_out_each_object_once(session);
    IS(CKR_OK, p11->C_Finalize(NULL));
}
